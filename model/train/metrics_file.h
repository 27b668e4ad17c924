// metrics.jsonl: how a run of training went, a line of JSON for each step and each evaluation
// (docs/formats/training-run.md).
#ifndef EIDETIC_MODEL_TRAIN_METRICS_FILE_H_
#define EIDETIC_MODEL_TRAIN_METRICS_FILE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace eidetic::model {

struct StepMetrics {
  int64_t step = 0;                     // from 1 on
  std::string_view objective = "text";  // as TuneObjectiveName has it
  double loss = 0;                      // a mean over predicted tokens, before the step
  double rate = 0;
  double gradient_norm = 0;  // before clipping
  int64_t tokens = 0;        // read since the run began
  double tokens_per_second = 0;
  double seconds = 0;              // of training since the run began
  uint64_t peak_memory_bytes = 0;  // of the device: since this process began
};

struct EvaluationMetrics {
  int64_t step = 0;  // after so many
  double loss = 0;   // on what was held out
  int64_t tokens = 0;
  double seconds = 0;                                 // of the evaluation
  bool best = false;                                  // of the run so far
  std::optional<double> teacher_loss = std::nullopt;  // there, where the run has a teacher
};

// Open to be added to; nobody else writes it meanwhile. Not thread-safe. All calls throw Error:
// kNotFound (the folder), kIo, kNoSpace.
class MetricsFile {
 public:
  // Also throws LockedError when another process has it open.
  explicit MetricsFile(const std::string& path);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  // Leaves the lines of steps up to `step`, and evaluations up to the one after `evaluated` steps
  // (-1: none): what came later is not known to a run that goes on from there.
  void CutBack(int64_t step, int64_t evaluated);
  void Add(const StepMetrics& metrics);
  void Add(const EvaluationMetrics& metrics);
  // What was added is on disk when it returns.
  void Flush();
  bool IsEmpty() const noexcept;
  // Takes the file away; nothing is added afterwards.
  void Remove() noexcept;

 private:
  bool OpenAndLock();
  void AddLine(const std::string& line);
  [[noreturn]] void Fail(const char* action, int error) const;

  std::string path_;
  int descriptor_ = -1;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_METRICS_FILE_H_
