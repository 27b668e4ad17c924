// What a session recalls from: its own past and the collections that are attached; and which
// passages were recalled.
#include <algorithm>
#include <utility>

#include "sdk/error_wall.h"
#include "sdk/session.h"

namespace eidetic::sdk {

using memory::Code;
using memory::Result;
using memory::Status;

Status Session::Attach(std::shared_ptr<memory::Archive> archive, const std::string& collection) {
  return BehindWall([&]() -> Status {
    if (!options_.HasSpan()) {
      return Status(Code::kInvalidArgument,
                    std::string("a session in mode '") + SessionModeName(options_.mode) +
                        "' has no span to recall into",
                    "make the session in mode 'stream'");
    }
    EID_ASSIGN_OR_RETURN(memory::CollectionRecord record, archive->Collection(collection));
    if (record.layout.fingerprint != engine_->fingerprint()) {
      return Status(Code::kFingerprintMismatch,
                    "collection '" + collection + "' was made by a model with fingerprint " +
                        record.layout.fingerprint.substr(0, 12) + "..., this model has " +
                        engine_->fingerprint().substr(0, 12) + "...",
                    "use the model that made it, or have this one read it again: `eidetic archive "
                    "migrate`");
    }
    for (int layer : options_.span_layers) {
      if (record.layout.LayerIndex(layer) < 0) {
        return Status(Code::kInvalidArgument,
                      "span layer " + std::to_string(layer) + " was not stored in collection '" +
                          collection + "'",
                      "choose span layers among the stored ones, or ingest again");
      }
    }
    for (const Attachment& attached : attachments_) {
      if (attached.archive == archive && attached.collection == collection) return Status();
    }
    EID_ASSIGN_OR_RETURN(std::shared_ptr<const memory::RepresentativeIndex> index,
                         archive->Index(collection, memory::IndexKind::kInt8, engine_->threads()));
    attachments_.push_back({std::move(archive), collection, std::move(index)});
    dirty_ = true;
    return Status();
  });
}

// Own past first, then the collections in order of attachment, each with its newest index: what was
// removed meanwhile is gone from it (rule 4).
Status Session::RefreshSources() {
  if (replayed_turn_ != 0) {
    return Status(Code::kNotFound,
                  "a document was removed while session '" + options_.name +
                      "' was read again to turn " + std::to_string(replayed_turn_),
                  "open the session once more");
  }
  if (broken_) log_.MarkNotReplayable();  // in the middle of a pass
  std::vector<memory::RetrievalSource> sources;
  for (const OwnPast& past : past_)
    sources.push_back({past.index.get(), past.store, /*is_one_text=*/true});
  std::vector<std::shared_ptr<const memory::RepresentativeIndex>> newest;
  EID_RETURN_IF_ERROR(DropForgottenCollections());
  for (const Attachment& attached : attachments_) {
    EID_ASSIGN_OR_RETURN(
        auto index,
        attached.archive->Index(attached.collection, memory::IndexKind::kInt8, engine_->threads()));
    sources.push_back({index.get(), &attached.archive->store()});
    newest.push_back(std::move(index));
  }
  recall_->SetSources(std::move(sources));
  ShareChoices(/*own_past_alone=*/attachments_.empty());
  // Only now may the old ones go.
  for (size_t i = 0; i < newest.size(); ++i) attachments_[i].index = std::move(newest[i]);
  EID_RETURN_IF_ERROR(DropRemovedPins());
  log_.BeginView(CurrentView());
  return Status();
}

// A choice for several layers is as good in a running session, and loses where a fresh one asks a
// collection (docs/decisions/097).
void Session::ShareChoices(bool own_past_alone) {
  recall_->ShareChoices(options_.span_layers, own_past_alone ? options_.layer_group : 1);
}

// Collections that were forgotten as a whole, or that another model has read since (rule 4). Their
// pins, and what the record says of them, go with them.
Status Session::DropForgottenCollections() {
  for (size_t i = 0; i < attachments_.size();) {
    EID_ASSIGN_OR_RETURN(const bool there,
                         IsOfThisModel(*attachments_[i].archive, attachments_[i].collection));
    if (there) {
      ++i;
      continue;
    }
    recall_->DropSource(FirstAttachment() + static_cast<int>(i));
    attachments_.erase(attachments_.begin() + static_cast<std::ptrdiff_t>(i));
    dirty_ = true;
  }
  return Status();
}

Status Session::DropRemovedPins() {
  std::vector<memory::PinnedBlock> kept;
  for (const memory::PinnedBlock& pin : recall_->pinned()) {
    if (pin.source >= FirstAttachment()) {
      const Attachment& attached =
          attachments_[static_cast<size_t>(pin.source - FirstAttachment())];
      EID_ASSIGN_OR_RETURN(const std::optional<memory::DocumentRecord> document,
                           attached.archive->DocumentOfLineage(pin.block.lineage));
      if (!document) continue;
    }
    kept.push_back(pin);
  }
  recall_->SetPinned(std::move(kept));
  return Status();
}

Result<bool> Session::IsOfThisModel(const memory::Archive& archive,
                                    const std::string& collection) const {
  const Result<memory::CollectionRecord> there = archive.Collection(collection);
  if (there.ok()) return there->layout.fingerprint == engine_->fingerprint();
  if (there.status().code() != Code::kNotFound) return there.status();
  return false;
}

std::vector<PassageSource> Session::PassageSources() const {
  std::vector<PassageSource> sources;
  for (size_t i = 0; i < past_.size(); ++i) {
    PassageSource own;
    own.session = options_.name;
    own.text = [this](uint64_t begin, uint64_t end) {
      return engine_->tokenizer().Decode({tokens_.begin() + static_cast<std::ptrdiff_t>(begin),
                                          tokens_.begin() + static_cast<std::ptrdiff_t>(end)});
    };
    sources.push_back(std::move(own));
  }
  for (const Attachment& attached : attachments_) {
    PassageSource source;
    source.collection = attached.collection;
    source.archive = attached.archive.get();
    sources.push_back(std::move(source));
  }
  return sources;
}

Result<std::vector<Passage>> Session::Sources(size_t limit, PassageOrder order) const {
  return BehindWall([&]() -> Result<std::vector<Passage>> {
    return PassagesOf(recall_->record(), PassageSources(), limit, order,
                      engine_->profile().focus_layer);
  });
}

}  // namespace eidetic::sdk
