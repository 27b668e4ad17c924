// The curves of a run of training as SVG: loss by step, and the loss on what was held out.
#ifndef EIDETIC_APPS_EVAL_LOSS_CURVES_H_
#define EIDETIC_APPS_EVAL_LOSS_CURVES_H_

#include <cstdint>
#include <string>
#include <vector>

namespace eidetic::eval {

struct LossPoint {
  std::int64_t step = 0;
  double loss = 0;  // nats a token
};

struct LossCurves {
  std::string title = "Loss, nats a token", subtitle;
  std::vector<LossPoint> training, held_out;  // in order of the step
};

// What metrics.jsonl says; lines that are no metrics are passed over. Of a run with a teacher: the
// divergence from it, with the text's share in it, and what was held out above the teacher's loss
// there.
LossCurves read_loss_curves(const std::string& metrics);

// A self-contained SVG document: no fonts, scripts or links from outside. A long run is drawn by
// the means of neighbouring steps.
std::string to_svg(const LossCurves& curves);

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_LOSS_CURVES_H_
