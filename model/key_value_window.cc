#include "model/key_value_window.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "model/host_copy.h"

namespace eidetic::model {
namespace {

// Free slots beyond those asked for: the window is moved back once per so many tokens.
constexpr int64_t kSlack = 512;

}  // namespace

KeyValueWindow::KeyValueWindow(const WindowShape& shape, int sinks, c10::Device device)
    : shape_(shape), sinks_wanted_(sinks), device_(device), stamps_(shape.layers) {
  sinks_ = at::empty({shape.layers, 2, shape.kv_heads, sinks, shape.head_dim},
                     at::TensorOptions(device).dtype(at::kFloat));
}

KeyValueWindow KeyValueWindow::Copy() const {
  KeyValueWindow copy(shape_, static_cast<int>(sinks_wanted_), device_);
  copy.sink_count_ = sink_count_;
  copy.sinks_.narrow(3, 0, sink_count_).copy_(SinkRows());
  const int64_t held = window_tokens();
  copy.Reserve(prefix_capacity_, held);
  copy.begin_ = prefix_capacity_;
  copy.end_ = copy.begin_ + held;
  if (held > 0) copy.rows_.narrow(3, copy.begin_, held).copy_(rows_.narrow(3, begin_, held));
  return copy;
}

uint64_t KeyValueWindow::bytes() const {
  const int64_t rows = rows_.defined() ? rows_.numel() : 0;
  return static_cast<uint64_t>(rows + sinks_.numel()) * sizeof(float);
}

void KeyValueWindow::Reserve(int64_t prefix, int64_t tokens) {
  const int64_t held = end_ - begin_;
  if (prefix > prefix_capacity_ || prefix_capacity_ + held + tokens > capacity_) {
    const int64_t wanted = std::max(prefix, prefix_capacity_);
    // Growing by half keeps the cost of copying a full-attention stream linear in its length.
    const int64_t capacity = std::max(wanted + held + tokens + kSlack, capacity_ * 3 / 2);
    prefix_capacity_ = wanted;
    Reallocate(capacity, wanted);
    return;
  }
  if (end_ + tokens > capacity_) MoveTo(prefix_capacity_);
}

void KeyValueWindow::Reallocate(int64_t capacity, int64_t begin) {
  const int64_t held = end_ - begin_;
  at::Tensor rows = at::empty({shape_.layers, 3, shape_.kv_heads, capacity, shape_.head_dim},
                              at::TensorOptions(device_).dtype(at::kFloat));
  // A prefix that grows in the middle of a forward pass must not lose the segment's rows, which
  // earlier layers have written behind the window.
  const int64_t kept = std::min(capacity_ - begin_, capacity - begin);
  if (kept > 0) rows.narrow(3, begin, kept).copy_(rows_.narrow(3, begin_, kept));
  rows_ = rows;
  capacity_ = capacity;
  begin_ = begin;
  end_ = begin + held;
  ForgetPrefixes();
  planes_.clear();
  for (int layer = 0; layer < shape_.layers; ++layer) {
    for (int plane = 0; plane < 3; ++plane) planes_.push_back(rows_[layer][plane]);
  }
}

void KeyValueWindow::MoveTo(int64_t begin) {
  const int64_t held = end_ - begin_;
  for (const at::Tensor& plane : planes_) {
    // The two places may overlap.
    plane.narrow(1, begin, held).copy_(plane.narrow(1, begin_, held).clone());
  }
  begin_ = begin;
  end_ = begin + held;
  ForgetPrefixes();
}

at::Tensor KeyValueWindow::Slots(int layer, Plane plane, int64_t first, int64_t count) const {
  return planes_[layer * 3 + static_cast<int>(plane)].narrow(1, begin_ + first, count);
}

at::Tensor KeyValueWindow::KeyAndValueSlots(int layer, int64_t first, int64_t count) const {
  return rows_[layer].narrow(0, 0, 2).narrow(2, begin_ + first, count);
}

at::Tensor KeyValueWindow::SinkKeys(int layer) const {
  return sinks_[layer][0].narrow(1, 0, sink_count_);
}

at::Tensor KeyValueWindow::SinkValues(int layer) const {
  return sinks_[layer][1].narrow(1, 0, sink_count_);
}

bool KeyValueWindow::SinksAreStale(int layer, int64_t prefix) const {
  const PrefixStamp& stamp = stamps_[layer];
  // The window begins at another slot whenever tokens have left; moves of the buffer clear stamps.
  return stamp.begin != begin_ || stamp.tokens != prefix;
}

void KeyValueWindow::MarkSinksWritten(int layer, int64_t prefix) {
  stamps_[layer].begin = begin_;
  stamps_[layer].tokens = prefix;
}

std::vector<int> KeyValueWindow::StalePages(int layer, const kernels::SpanView& span,
                                            const std::shared_ptr<const void>& epoch) const {
  const PrefixStamp& stamp = stamps_[layer];
  const bool known = stamp.pages_begin == begin_ && stamp.epoch == epoch;
  std::vector<int> stale;
  int64_t distance = span.tokens;
  size_t at = known ? 0 : stamp.pages.size();  // both lists go towards the window
  for (int i = 0; i < span.page_count; ++i) {
    const kernels::SpanPage& page = span.pages[i];
    while (at < stamp.pages.size() && stamp.pages[at].distance > distance) ++at;
    const bool stands =
        page.block != 0 && at < stamp.pages.size() && stamp.pages[at].distance == distance &&
        stamp.pages[at].block == page.block && stamp.pages[at].source == page.source;
    if (!stands) stale.push_back(i);
    distance -= page.tokens;
  }
  return stale;
}

void KeyValueWindow::MarkPagesWritten(int layer, const kernels::SpanView& span,
                                      const std::shared_ptr<const void>& epoch) {
  PrefixStamp& stamp = stamps_[layer];
  stamp.pages_begin = begin_;
  stamp.epoch = epoch;
  stamp.pages.clear();
  int64_t distance = span.tokens;
  for (int i = 0; i < span.page_count; ++i) {
    stamp.pages.push_back({span.pages[i].source, span.pages[i].block, distance});
    distance -= span.pages[i].tokens;
  }
}

void KeyValueWindow::ForgetPrefixes() {
  std::fill(stamps_.begin(), stamps_.end(), PrefixStamp());
}

void KeyValueWindow::Advance(int64_t tokens) {
  end_ += tokens;
  const int64_t more = std::min(sinks_wanted_ - sink_count_, end_ - begin_);
  if (more <= 0) return;
  sinks_.narrow(3, sink_count_, more).copy_(rows_.narrow(1, 0, 2).narrow(3, begin_, more));
  sink_count_ += more;
  Drop(more);
}

void KeyValueWindow::Drop(int64_t tokens) {
  begin_ += tokens;
}

at::Tensor KeyValueWindow::CopyOut(int64_t from_sinks, int64_t first, int64_t count) const {
  at::Tensor rows = WindowRows().narrow(3, first, count);
  if (from_sinks > 0) {
    rows = at::cat({SinkRows().narrow(3, sink_count_ - from_sinks, from_sinks), rows}, 3);
  }
  return CopyToHost(rows.permute({0, 1, 3, 2, 4}));
}

void KeyValueWindow::Fill(const at::Tensor& sinks, const at::Tensor& window) {
  ForgetPrefixes();
  sink_count_ = sinks.size(3);
  sinks_.narrow(3, 0, sink_count_).copy_(sinks);
  const int64_t held = window.size(3);
  begin_ = end_ = prefix_capacity_;
  if (held == 0) return;
  Reserve(prefix_capacity_, held);
  rows_.narrow(1, 0, 2).narrow(3, begin_, held).copy_(window);
  end_ = begin_ + held;
}

at::Tensor KeyValueWindow::SinkRows() const {
  return sinks_.narrow(3, 0, sink_count_);
}

at::Tensor KeyValueWindow::WindowRows() const {
  return rows_.narrow(1, 0, 2).narrow(3, begin_, end_ - begin_);
}

}  // namespace eidetic::model
