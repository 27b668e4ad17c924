// Trained adapters as folders that PEFT, `--adapter` and `eidetic adapter` read.
#ifndef EIDETIC_MODEL_TRAIN_ADAPTER_FOLDER_H_
#define EIDETIC_MODEL_TRAIN_ADAPTER_FOLDER_H_

#include <memory>
#include <string>

#include "model/adapter_file.h"
#include "model/train/adapter.h"

namespace eidetic::model {

// Writes adapter_config.json and adapter_model.safetensors (fp32) into `folder`; see WriteAdapter.
// `base_model`: the name or path that the configuration gives the base; may be empty. An embedding
// that was trained stays the output matrix too, where the base has them tied. A rotary scaling that
// the base does not have goes along. Throws Error as WriteAdapter does.
void SaveAdapter(const Adapter& adapter, const DifferentiableModel& model,
                 const std::string& base_model, const std::string& folder);

// Numbers in the tensors that SaveAdapter writes: those that are trained, and once more those of an
// embedding that is the output matrix too, which stands there under both names.
int64_t SavedNumbers(const Adapter& adapter, const DifferentiableModel& model);

// All tensors of a file, by the names of Adapter::Export: a tied embedding under one name alone.
// Throws kUnsupported where it stands there twice and differs.
HostTensors TensorsOf(const AdapterFile& file);
// The same of one tensor, F32, F16 or BF16.
HostTensor HostTensorOf(const SafeTensor& tensor);

// The adapter of a file on `model`, ready to be trained further: of the kind that its tensors make
// it, with its ranks, alphas, dropout and modules. Throws Error: kUnsupported for files without
// LoRA, and where a tied embedding was trained apart from the output matrix; kInvalidArgument when
// it is no whole adapter of this model.
std::unique_ptr<Adapter> LoadAdapter(const AdapterFile& file, DifferentiableModel* model);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_ADAPTER_FOLDER_H_
