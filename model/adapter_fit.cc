#include "model/adapter_fit.h"

#include <algorithm>
#include <utility>

#include "model/error.h"
#include "model/text.h"

namespace eidetic::model {
namespace {

using Form = FolderTensor::Form;

constexpr char kEmbeddingTensor[] = "token_embd.weight";
constexpr char kOutputTensor[] = "output.weight";
constexpr std::string_view kWeight = ".weight", kBias = ".bias";

std::string ModuleOf(const std::string& source) {
  for (const std::string_view ending : {kWeight, kBias}) {
    if (source.ends_with(ending)) return source.substr(0, source.size() - ending.size());
  }
  return source;
}

// The matrix [rows, columns] of `tensor`, or its transpose.
std::vector<float> Matrix(const SafeTensor& tensor, bool transposed) {
  const uint64_t rows = tensor.shape[0], columns = tensor.shape[1];
  std::vector<float> values(rows * columns);
  ReadValues(tensor, 0, values.size(), values.data());
  if (!transposed) return values;
  std::vector<float> turned(values.size());
  for (uint64_t row = 0; row < rows; ++row) {
    for (uint64_t column = 0; column < columns; ++column) {
      turned[column * rows + row] = values[row * columns + column];
    }
  }
  return turned;
}

}  // namespace

// Finds the place of everything in the adapter, and what is wrong.
class AdapterFit::Builder {
 public:
  Builder(const Checkpoint& base, const AdapterFile& adapter)
      : base_(base),
        adapter_(adapter),
        config_(base.Config()),
        is_gguf_(base.Summary().format == "gguf") {}

  void Build(AdapterFit* fit) {
    for (FolderTensor& tensor : FolderTensorsOf(config_)) {
      SetOrderOfFile(&tensor);
      std::string base = tensor.name;
      Add(std::move(tensor), std::move(base));
    }
    if (config_.tied_embeddings) AddTiedOutput();
    for (const auto& [module, low_rank] : adapter_.low_rank()) Place(module, low_rank);
    for (const auto& [name, tensor] : adapter_.whole()) Place(name, *tensor);
    for (const auto& [source, names] : by_source_) RequireChanged(source, parts_.at(names[0]));
    FailWithProblems();
    fit->unties_ = Untie();
    for (auto& [name, part] : parts_) {
      const bool changed = part.low_rank != nullptr || part.whole != nullptr;
      if (changed || (fit->unties_ && name == kOutputTensor)) fit->parts_[name] = std::move(part);
    }
  }

 private:
  void Add(FolderTensor tensor, std::string base) {
    by_source_[tensor.source].push_back(tensor.name);
    std::string name = tensor.name;
    parts_[std::move(name)] = {std::move(tensor), std::move(base), nullptr, nullptr};
  }

  // A GGUF has the rows of q and k interleaved also where positions are not rotary, and there it is
  // not said of which part of a head when they are so in part.
  void SetOrderOfFile(FolderTensor* tensor) {
    if (!is_gguf_) return;
    const bool query = tensor->name.ends_with(".attn_q.weight");
    if (!query && !tensor->name.ends_with(".attn_k.weight")) return;
    partly_rotary_ = config_.rotary_dims != 0 && config_.rotary_dims != config_.head_dim;
    tensor->form = Form::kHalfSplitRows;
    tensor->head_dim = static_cast<uint64_t>(config_.head_dim);
  }

  void AddTiedOutput() {
    FolderTensor output;
    output.name = kOutputTensor;
    output.source = kOutputMatrix;
    output.shape = parts_.at(kEmbeddingTensor).form.shape;
    output.source_shape = output.shape;
    Add(std::move(output), kEmbeddingTensor);
  }

  void Problem(const std::string& text) { problems_.push_back(text); }

  static bool IsLinear(const FolderTensor& form) {
    return form.source_shape.size() == 2 && form.source != kEmbedding &&
           form.source.ends_with(kWeight);
  }

  void Place(const std::string& module, const LowRank& low_rank) {
    const auto found = by_source_.find(module + std::string(kWeight));
    if (found == by_source_.end()) {
      return Problem(Quoted(module) + " has LoRA and is no module of the base");
    }
    const FolderTensor& form = parts_.at(found->second[0]).form;
    const bool is_embedding = form.source == kEmbedding;
    if (form.source_shape.size() != 2 || is_embedding != low_rank.embedding) {
      return Problem(Quoted(module) + " has LoRA of another kind of layer than it is in the base");
    }
    const std::vector<uint64_t>&a = low_rank.a->shape, &b = low_rank.b->shape;
    const std::vector<uint64_t> shape =
        is_embedding ? std::vector<uint64_t>{a[1], b[0]} : std::vector<uint64_t>{b[0], a[1]};
    if (shape != form.source_shape) {
      return Problem(Quoted(module) + " is " + ShapeText(form.source_shape) +
                     " in the base, and B A of the adapter is " + ShapeText(shape));
    }
    if (!adapter_.modules().HasLora(module, IsLinear(form))) {
      return Problem(Quoted(module) + " has LoRA, and 'target_modules' does not name it");
    }
    RefusePartlyRotary(form);
    for (const std::string& name : found->second) parts_.at(name).low_rank = &low_rank;
  }

  void Place(const std::string& name, const SafeTensor& tensor) {
    const auto found = by_source_.find(name);
    if (found == by_source_.end()) {
      return Problem(Quoted(name) + " is no tensor of the base");
    }
    const FolderTensor& form = parts_.at(found->second[0]).form;
    if (tensor.shape != form.source_shape) {
      return Problem(Quoted(name) + " is " + ShapeText(form.source_shape) + " in the base and " +
                     ShapeText(tensor.shape) + " in the adapter");
    }
    RefusePartlyRotary(form);
    for (const std::string& part : found->second) parts_.at(part).whole = &tensor;
  }

  void RefusePartlyRotary(const FolderTensor& form) const {
    if (!partly_rotary_ || form.form != Form::kHalfSplitRows) return;
    throw Error(ErrorCode::kUnsupported,
                base_.path() + ": a part of each head is rotary, and the order of the rows of " +
                    Quoted(form.name) + " is not known",
                "apply the adapter to the model's folder");
  }

  // What the configuration says is changed must be there.
  void RequireChanged(const std::string& source, const Part& part) {
    const std::string module = ModuleOf(source);
    const bool whole = part.whole != nullptr;
    if (!whole && adapter_.modules().IsSaved(module)) {
      // One of two that are trained as one is enough.
      if (adapter_.config().tied && source == kOutputMatrix) return;
      return Problem(Quoted(source) +
                     " is trained whole by 'modules_to_save', and the adapter "
                     "lacks it");
    }
    if (part.low_rank != nullptr || !source.ends_with(kWeight)) return;
    if (part.form.source_shape.size() != 2) return;
    if (adapter_.modules().HasLora(module, IsLinear(part.form))) {
      Problem(Quoted(module) + " has LoRA by 'target_modules', and the adapter lacks it");
    }
  }

  void FailWithProblems() const {
    if (problems_.empty()) return;
    constexpr size_t kMost = 4;
    std::string text;
    for (size_t i = 0; i < std::min(kMost, problems_.size()); ++i) {
      text += (i == 0 ? "" : "; ") + problems_[i];
    }
    if (problems_.size() > kMost) {
      text += "; and " + std::to_string(problems_.size() - kMost) + " more";
    }
    const std::string& made_for = adapter_.config().base_model;
    throw Error(ErrorCode::kMismatch,
                "the adapter " + adapter_.path() + " does not fit " + base_.path() + ": " + text,
                made_for.empty() ? "use the base that the adapter was trained on"
                                 : "the adapter was trained on " + Quoted(made_for));
  }

  // Whether embedding and output matrix go apart. PEFT's default is that a change of one leaves the
  // other as it was.
  bool Untie() {
    if (!config_.tied_embeddings) return false;
    Part &embedding = parts_.at(kEmbeddingTensor), &output = parts_.at(kOutputTensor);
    const bool changes_output = output.low_rank != nullptr || output.whole != nullptr;
    if (adapter_.config().tied && output.low_rank == nullptr) {
      if (!changes_output || embedding.whole == nullptr) {
        if (changes_output) std::swap(embedding.whole, output.whole);
        return false;
      }
      const SafeTensor &one = *embedding.whole, &other = *output.whole;
      if (one.dtype == other.dtype && std::equal(one.data, one.data + one.bytes, other.data)) {
        output.whole = nullptr;
        return false;
      }
    }
    return changes_output || embedding.low_rank != nullptr || embedding.whole != nullptr;
  }

  const Checkpoint& base_;
  const AdapterFile& adapter_;
  const ModelConfig config_;
  const bool is_gguf_;
  bool partly_rotary_ = false;
  std::map<std::string, Part> parts_;                          // by the base's name
  std::map<std::string, std::vector<std::string>> by_source_;  // by that of `transformers`
  std::vector<std::string> problems_;
};

AdapterFit::AdapterFit(std::shared_ptr<const Checkpoint> base,
                       std::shared_ptr<const AdapterFile> adapter)
    : base_(std::move(base)), adapter_(std::move(adapter)) {
  Builder(*base_, *adapter_).Build(this);
}

std::vector<std::string> AdapterFit::Changed() const {
  std::vector<std::string> names;
  for (const auto& [name, part] : parts_) names.push_back(name);
  return names;
}

bool AdapterFit::ChangesValues(const std::string& tensor) const {
  const auto found = parts_.find(tensor);
  return found != parts_.end() &&
         (found->second.low_rank != nullptr || found->second.whole != nullptr);
}

const std::vector<uint64_t>& AdapterFit::Shape(const std::string& tensor) const {
  return parts_.at(tensor).form.shape;
}

const std::string& AdapterFit::BaseTensor(const std::string& tensor) const {
  return parts_.at(tensor).base;
}

void AdapterFit::Read(const std::string& tensor, float* values) const {
  const Part& part = parts_.at(tensor);
  if (part.whole == nullptr) {
    base_->Read(part.base, part.form.shape, values);
  } else {
    part.form.Convert(
        [&](float* out) {
          ReadValues(*part.whole, part.form.first_value, part.form.Values(), out);
        },
        values);
  }
  if (part.low_rank != nullptr) AddLowRank(part, values);
}

void AdapterFit::AddLowRank(const Part& part, float* values) const {
  const LowRank& low_rank = *part.low_rank;
  const uint64_t rows = part.form.shape[0], columns = part.form.shape[1], rank = low_rank.rank;
  const bool turned = low_rank.embedding;
  const std::vector<float> all = Matrix(turned ? *low_rank.a : *low_rank.b, turned);
  const std::vector<float> right = Matrix(turned ? *low_rank.b : *low_rank.a, turned);
  // Rows of the product stand as those of its left factor: [rows, rank].
  FolderTensor form = part.form;
  form.shape = {rows, rank};
  const uint64_t first = part.form.first_value / columns * rank;
  std::vector<float> left(rows * rank);
  form.Convert([&](float* out) { std::copy_n(all.data() + first, left.size(), out); }, left.data());
  const double scale = low_rank.scale;
#pragma omp parallel
  {
    std::vector<double> sums(columns);
#pragma omp for
    for (uint64_t row = 0; row < rows; ++row) {
      std::fill(sums.begin(), sums.end(), 0.0);
      for (uint64_t k = 0; k < rank; ++k) {
        const double factor = left[row * rank + k];
        const float* from = right.data() + k * columns;
        for (uint64_t i = 0; i < columns; ++i) sums[i] += factor * static_cast<double>(from[i]);
      }
      float* out = values + row * columns;
      for (uint64_t i = 0; i < columns; ++i) {
        out[i] = static_cast<float>(static_cast<double>(out[i]) + scale * sums[i]);
      }
    }
  }
}

namespace {

class AdaptedCheckpoint final : public Checkpoint {
 public:
  AdaptedCheckpoint(std::shared_ptr<const Checkpoint> base,
                    std::shared_ptr<const AdapterFile> adapter)
      : fit_(std::move(base), std::move(adapter)) {}

  const std::string& path() const override { return fit_.base().path(); }
  std::vector<std::string> files() const override { return fit_.base().files(); }
  ModelConfig Config() const override {
    ModelConfig config = fit_.base().Config();
    if (fit_.Unties()) config.tied_embeddings = false;
    const auto& scaling = fit_.adapter().config().rotary_scaling;
    if (scaling) config.SetRotaryScaling(*scaling);
    return config;
  }
  std::shared_ptr<const Tokenizer> ReadTokenizer() const override {
    return fit_.base().ReadTokenizer();
  }
  CheckpointSummary Summary() const override { return fit_.base().Summary(); }
  bool Has(const std::string& tensor) const override {
    return fit_.Changes(tensor) || fit_.base().Has(tensor);
  }
  void Read(const std::string& tensor, const std::vector<uint64_t>& shape,
            float* values) const override {
    if (!fit_.Changes(tensor)) return fit_.base().Read(tensor, shape, values);
    if (fit_.Shape(tensor) != shape) {
      throw Error(ErrorCode::kCorruption,
                  Where(tensor) + " has the shape " + ShapeText(fit_.Shape(tensor)) +
                      ", expected " + ShapeText(shape),
                  "use another base");
    }
    fit_.Read(tensor, values);
  }
  std::optional<std::string> SameAsInBase(const std::string& tensor) const override {
    if (fit_.ChangesValues(tensor)) return std::nullopt;
    return fit_.Changes(tensor) ? fit_.BaseTensor(tensor) : tensor;
  }
  std::string Where(const std::string& tensor) const override {
    if (!fit_.Changes(tensor)) return fit_.base().Where(tensor);
    return "tensor " + Quoted(tensor) + " of " + fit_.base().path() + " with the adapter " +
           fit_.adapter().path();
  }

 private:
  const AdapterFit fit_;
};

}  // namespace

std::shared_ptr<const Checkpoint> WithAdapter(std::shared_ptr<const Checkpoint> base,
                                              std::shared_ptr<const AdapterFile> adapter) {
  return std::make_shared<AdaptedCheckpoint>(std::move(base), std::move(adapter));
}

}  // namespace eidetic::model
