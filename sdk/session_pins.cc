// Session's pinned blocks: found by words, saved and restored.
#include <algorithm>
#include <optional>
#include <utility>

#include "sdk/session.h"

namespace eidetic::sdk {

using memory::Code;
using memory::Result;
using memory::Status;

namespace {

std::string PlaceOf(const SavedPin& pin) {
  return "the pinned block at position " + std::to_string(pin.position) + " of lineage " +
         std::to_string(pin.lineage) +
         (pin.collection.empty() ? std::string(", of the session's own past")
                                 : ", of collection '" + pin.collection + "'");
}

}  // namespace

Status Session::PinPlacesOf(std::string_view words) {
  const auto limit = static_cast<size_t>(options_.words.places);
  std::vector<memory::FoundPlace> found;
  for (size_t i = 0; i < past_.size(); ++i) {
    EID_ASSIGN_OR_RETURN(
        std::vector<memory::FoundPlace> places,
        past_[i].words.Search(
            *past_[i].index, [this](uint64_t begin, uint64_t end) { return TextOf(begin, end); },
            words, limit));
    for (memory::FoundPlace& place : places) {
      place.source = static_cast<int>(i);
      found.push_back(std::move(place));
    }
  }
  for (size_t i = 0; i < attachments_.size(); ++i) {
    EID_ASSIGN_OR_RETURN(
        std::vector<memory::WordPlace> places,
        attachments_[i].archive->SearchWords(attachments_[i].collection, words, limit));
    for (memory::WordPlace& place : places) {
      found.push_back(
          {FirstAttachment() + static_cast<int>(i), std::move(place.blocks), place.score});
    }
  }
  recall_->SetPinned(memory::PinPlaces(std::move(found), options_.words));
  return Status();
}

std::vector<SavedPin> Session::SavedPins() const {
  std::vector<SavedPin> pins;
  for (const memory::PinnedBlock& pin : recall_->pinned()) {
    SavedPin saved{"", pin.block.lineage, pin.block.position, pin.score};
    if (pin.source >= FirstAttachment()) {
      const Attachment& attached =
          attachments_[static_cast<size_t>(pin.source - FirstAttachment())];
      if (attached.archive != archive_) continue;
      saved.collection = attached.collection;
    }
    pins.push_back(std::move(saved));
  }
  return pins;
}

// What was pinned is not searched again: the collections may have grown since.
Status Session::RestorePins(const std::vector<SavedPin>& pins) {
  std::vector<std::string> collections;
  for (const Attachment& attached : attachments_) collections.push_back(attached.collection);
  EID_ASSIGN_OR_RETURN(std::vector<memory::PinnedBlock> pinned,
                       PinnedBlocksOf(pins, FirstAttachment(), collections, Missing::kLeftOut));
  recall_->SetPinned(std::move(pinned));
  return Status();
}

Result<memory::BlockHeader> Session::OwnPinnedBlock(const SavedPin& pin) const {
  const auto entry =
      std::find_if(past_path_.begin(), past_path_.end(),
                   [&](const memory::PathEntry& one) { return one.lineage == pin.lineage; });
  memory::BlockHeader header;
  std::vector<uint16_t> representatives;
  if (entry == past_path_.end() || pin.position >= entry->blocks ||
      pin.position >= tokens_.size()) {
    return DamagedRecord(PlaceOf(pin) + " is none that it has read");
  }
  const Status read =
      archive_->store().ReadBlock(pin.lineage, pin.position, &header, &representatives);
  if (read.code() == Code::kNotFound) return DamagedRecord(PlaceOf(pin) + " is missing");
  EID_RETURN_IF_ERROR(read);
  if (header.tokens.size() > tokens_.size() - pin.position) {
    return DamagedRecord(PlaceOf(pin) + " ends behind what it has read");
  }
  return header;
}

Result<std::optional<memory::BlockHeader>> Session::CollectionPinnedBlock(
    const SavedPin& pin) const {
  EID_ASSIGN_OR_RETURN(const std::optional<memory::DocumentRecord> document,
                       archive_->DocumentOfLineage(pin.lineage));
  if (!document) {
    // Removed, or never a document's.
    if (!archive_->store().Lineage(pin.lineage).ok()) return std::optional<memory::BlockHeader>();
    return DamagedRecord(PlaceOf(pin) + " is a session's");
  }
  if (document->collection != pin.collection) {
    return DamagedRecord(PlaceOf(pin) + " is of collection '" + document->collection + "'");
  }
  memory::BlockHeader header;
  std::vector<uint16_t> representatives;
  const Status read =
      archive_->store().ReadBlock(pin.lineage, pin.position, &header, &representatives);
  if (read.code() == Code::kNotFound) return std::optional<memory::BlockHeader>();
  EID_RETURN_IF_ERROR(read);
  return std::optional<memory::BlockHeader>(std::move(header));
}

Result<std::vector<memory::PinnedBlock>> Session::PinnedBlocksOf(
    const std::vector<SavedPin>& pins, int own, const std::vector<std::string>& collections,
    Missing missing) const {
  std::vector<memory::PinnedBlock> pinned;
  for (const SavedPin& pin : pins) {
    const auto attached = std::find(collections.begin(), collections.end(), pin.collection);
    const bool of_own_past = pin.collection.empty();
    std::optional<memory::BlockHeader> header;
    if (of_own_past && own > 0) {
      EID_ASSIGN_OR_RETURN(header, OwnPinnedBlock(pin));
    } else if (!of_own_past && attached != collections.end()) {
      EID_ASSIGN_OR_RETURN(header, CollectionPinnedBlock(pin));
    }
    if (!header && missing == Missing::kRefused) {
      return Status(Code::kNotFound, PlaceOf(pin) + " was forgotten or removed since");
    }
    if (!header) continue;  // rule 4
    const int source = of_own_past ? 0 : own + static_cast<int>(attached - collections.begin());
    pinned.push_back(
        {source,
         {header->id, pin.lineage, header->position, static_cast<int>(header->tokens.size()),
          header->text_begin, header->text_end},
         pin.score});
  }
  return pinned;
}

}  // namespace eidetic::sdk
