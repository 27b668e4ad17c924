// Saved and restored streams, and what leaves the window. No Torch here.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "model/error.h"
#include "model/hybrid_model.h"
#include "tests/model/tiny_model.h"

namespace eidetic::model {
namespace {

constexpr int kRow = 2 * 8;  // kv heads times head_dim of the tiny model

ErrorCode CodeOf(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  throw std::runtime_error("nothing was thrown");
}

// A stream that has read `count` tokens in segments of 7.
std::unique_ptr<ModelState> Stream(AttentionMode mode, int count, BlockSink* sink = nullptr) {
  const HybridModel& model = TinyModel();
  auto state = model.NewState(TinyOptions(mode));
  ForwardOptions options;
  options.sink = sink;
  if (count > 0) {
    Read(model, state.get(), RandomTokens(count, model.config().vocabulary, 21), 7, options);
  }
  return state;
}

class SavedState : public testing::TestWithParam<std::tuple<AttentionMode, int>> {};

TEST_P(SavedState, RestoredContinuesWithTheSameBits) {
  const auto [mode, count] = GetParam();
  const HybridModel& model = TinyModel();
  const auto state = Stream(mode, count);
  const std::string bytes = state->Serialize();
  const auto restored = model.RestoreState(bytes);
  EXPECT_EQ(restored->position(), static_cast<uint64_t>(count));
  EXPECT_EQ(restored->window_begin(), state->window_begin());
  EXPECT_EQ(restored->options().window, state->options().window);
  EXPECT_EQ(restored->Serialize(), bytes);
  RecordingSink sink(kRow), restored_sink(kRow);
  ForwardOptions options, restored_options;
  options.sink = &sink;
  restored_options.sink = &restored_sink;
  for (const size_t segment : {1, 5}) {
    const std::vector<int32_t> more = RandomTokens(40, model.config().vocabulary, 22);
    EXPECT_EQ(Read(model, restored.get(), more, segment, restored_options),
              Read(model, state.get(), more, segment, options));
  }
  model.Flush(state.get(), &sink);
  model.Flush(restored.get(), &restored_sink);
  ASSERT_EQ(sink.runs.size(), restored_sink.runs.size());
  EXPECT_EQ(sink.Joined().keys, restored_sink.Joined().keys);
  EXPECT_EQ(sink.Joined().ids, restored_sink.Joined().ids);
  EXPECT_EQ(restored->Serialize(), state->Serialize());
}

TEST_P(SavedState, ACopyContinuesWithTheSameBitsAndApart) {
  const auto [mode, count] = GetParam();
  const HybridModel& model = TinyModel();
  const auto state = Stream(mode, count);
  const std::string bytes = state->Serialize();
  std::vector<float> logits, copied_logits;
  const auto copy = model.CopyState(*state);
  EXPECT_EQ(copy->Serialize(), bytes);
  EXPECT_EQ(model.Logits(*copy, &copied_logits), model.Logits(*state, &logits));
  EXPECT_EQ(copied_logits, logits);
  const std::vector<int32_t> more = RandomTokens(40, model.config().vocabulary, 22);
  const auto read = Read(model, copy.get(), more, 5, ForwardOptions());
  EXPECT_EQ(state->Serialize(), bytes);  // the copy's tokens are not its
  const std::string later = copy->Serialize();
  EXPECT_EQ(Read(model, state.get(), more, 5, ForwardOptions()), read);
  EXPECT_EQ(copy->Serialize(), later);
  EXPECT_EQ(state->Serialize(), later);
}

// The state in two parts: the rows of sinks and window, cut into pieces of at most `piece` tokens.
std::vector<StateRows> RowsOf(const ModelState& state, uint64_t piece) {
  std::vector<StateRows> rows;
  const auto add = [&](uint64_t begin, uint64_t end) {
    for (uint64_t at = begin; at < end; at += piece) {
      const uint64_t stop = std::min(end, at + piece);
      rows.push_back({at, stop, state.SerializeRows(at, stop)});
    }
  };
  add(0, state.sink_count());
  add(state.window_begin(), state.position());
  return rows;
}

TEST_P(SavedState, InPartsContinuesWithTheSameBitsAndLogits) {
  const auto [mode, count] = GetParam();
  const HybridModel& model = TinyModel();
  const auto state = Stream(mode, count);
  const std::string recurrent = state->SerializeRecurrent();
  for (const uint64_t piece : {1, 3, 1000}) {
    const auto restored = model.RestoreState(recurrent, RowsOf(*state, piece));
    EXPECT_EQ(restored->Serialize(), state->Serialize());
    EXPECT_EQ(restored->SerializeRecurrent(), recurrent);
    std::vector<float> logits, restored_logits;
    EXPECT_EQ(model.Logits(*state, &logits), count > 0);
    EXPECT_EQ(model.Logits(*restored, &restored_logits), count > 0);
    EXPECT_EQ(restored_logits, logits);
  }
  // The logits are those of the pass itself.
  std::vector<float> passed, told;
  model.Forward({1, 2, 3}, state.get(), ForwardOptions(), &passed);
  ASSERT_TRUE(model.Logits(*state, &told));
  EXPECT_EQ(told, passed);
  EXPECT_TRUE(model.Logits(*state, nullptr));
}

TEST(SavedState, RowsWrittenEarlierAreThoseOfNow) {
  const HybridModel& model = TinyModel();
  const auto state = Stream(AttentionMode::kStream, 30);
  std::vector<StateRows> rows = RowsOf(*state, 1);
  std::vector<float> logits;
  for (int turn = 0; turn < 5; ++turn) {
    const uint64_t before = state->position();
    Read(model, state.get(), RandomTokens(9, model.config().vocabulary, 30 + turn), 4,
         ForwardOptions());
    for (uint64_t at = std::max(before, state->window_begin()); at < state->position(); ++at) {
      rows.push_back({at, at + 1, state->SerializeRows(at, at + 1)});
    }
    // Of all rows ever written, those that sinks and window need.
    std::vector<StateRows> needed;
    for (const StateRows& row : rows) {
      if (row.begin < state->sink_count() || row.begin >= state->window_begin()) {
        needed.push_back(row);
      }
    }
    const auto restored = model.RestoreState(state->SerializeRecurrent(), needed);
    EXPECT_EQ(restored->Serialize(), state->Serialize()) << turn;
  }
}

TEST(SavedState, InPartsThatDoNotFitIsCorruption) {
  const HybridModel& model = TinyModel();
  const auto state = Stream(AttentionMode::kStream, 140);
  const std::string recurrent = state->SerializeRecurrent();
  const std::vector<StateRows> rows = RowsOf(*state, 8);
  const auto refused = [&](const std::string& bytes, const std::vector<StateRows>& with) {
    return CodeOf([&] { model.RestoreState(bytes, with); });
  };
  for (size_t missing = 0; missing < rows.size(); ++missing) {
    std::vector<StateRows> fewer = rows;
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(missing));
    EXPECT_EQ(refused(recurrent, fewer), ErrorCode::kCorruption) << missing;
  }
  std::vector<StateRows> shorter = rows;
  shorter.back().bytes.pop_back();
  EXPECT_EQ(refused(recurrent, shorter), ErrorCode::kCorruption);
  for (size_t size = 0; size < recurrent.size(); size += size < 400 ? 1 : 97) {
    EXPECT_EQ(refused(recurrent.substr(0, size), rows), ErrorCode::kCorruption) << size;
  }
  EXPECT_EQ(refused(state->Serialize(), rows), ErrorCode::kCorruption);
  EXPECT_EQ(CodeOf([&] { model.RestoreState(recurrent); }), ErrorCode::kCorruption);

  const uint64_t sinks = state->sink_count(), window = state->window_begin();
  for (const auto& [begin, end] : std::vector<std::pair<uint64_t, uint64_t>>{
           {sinks, sinks}, {sinks - 1, sinks + 1}, {window - 1, window + 1}, {140, 141}}) {
    EXPECT_EQ(CodeOf([&, begin = begin, end = end] { state->SerializeRows(begin, end); }),
              ErrorCode::kInvalidArgument);
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, SavedState,
                         testing::Combine(testing::Values(AttentionMode::kFull,
                                                          AttentionMode::kWindow,
                                                          AttentionMode::kStream),
                                          testing::Values(0, 5, 8, 30, 140)));

TEST(SavedState, OfAFlushedStreamCanBeReadAndNotForwarded) {
  const HybridModel& model = TinyModel();
  const auto state = Stream(AttentionMode::kStream, 30);
  model.Flush(state.get(), nullptr);
  const auto restored = model.RestoreState(state->Serialize());
  EXPECT_EQ(restored->position(), 30u);
  std::vector<float> logits;
  for (ModelState* flushed : {state.get(), restored.get()}) {
    EXPECT_EQ(CodeOf([&] { model.Forward({1}, flushed, ForwardOptions(), &logits); }),
              ErrorCode::kInvalidArgument);
  }
}

TEST(SavedState, OfEveryShorterLengthIsCorruption) {
  const std::string bytes = Stream(AttentionMode::kStream, 30)->Serialize();
  for (size_t size = 0; size < bytes.size(); size += size < 400 ? 1 : 97) {
    EXPECT_EQ(CodeOf([&] { TinyModel().RestoreState(bytes.substr(0, size)); }),
              ErrorCode::kCorruption)
        << size;
  }
  EXPECT_EQ(CodeOf([&] { TinyModel().RestoreState(bytes + "x"); }), ErrorCode::kCorruption);
}

TEST(SavedState, WithAnyByteOfItsHeaderChangedIsRefusedOrReadAsWhatItSays) {
  const HybridModel& model = TinyModel();
  const auto state = Stream(AttentionMode::kStream, 30);
  const std::string bytes = state->Serialize();
  const size_t header = 12 + 4 + model.FingerprintBytes().size() + 80;
  int refused = 0;
  for (size_t at = 0; at < header; ++at) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ flip);
      try {
        const auto restored = model.RestoreState(damaged);
        EXPECT_EQ(restored->Serialize(), damaged);  // nothing was taken for something else
      } catch (const Error& error) {
        ++refused;
        if (at < 8) {
          EXPECT_EQ(error.code(), ErrorCode::kCorruption);
        } else if (at < 12) {
          EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
        }
      }
    }
  }
  EXPECT_GT(refused, static_cast<int>(header));
}

TEST(SavedState, OfAnotherModelIsAMismatch) {
  const std::string graph = TinyModel().FingerprintBytes();
  std::string bytes = Stream(AttentionMode::kStream, 30)->Serialize();
  const size_t at = bytes.find("hidden 32");
  ASSERT_NE(at, std::string::npos);
  bytes.replace(at, 9, "hidden 64");
  EXPECT_EQ(CodeOf([&] { TinyModel().RestoreState(bytes); }), ErrorCode::kMismatch);
}

class Eviction : public testing::TestWithParam<size_t> {};

TEST_P(Eviction, HandsOverEveryTokenOnceInOrderWithTheKeysAndValuesOfTheForwardPass) {
  const HybridModel& model = TinyModel();
  const std::vector<int32_t> ids = RandomTokens(203, model.config().vocabulary, 23);
  // What left must be what stood in the window: a copy of the stream is flushed after each segment,
  // while its rows are still there, and compared at the end.
  RecordingSink sink(kRow);
  ForwardOptions options;
  options.sink = &sink;
  const auto state = model.NewState(TinyOptions(AttentionMode::kStream));
  std::vector<RecordingSink::Run> flushed;
  for (size_t first = 0; first < ids.size(); first += GetParam()) {
    Read(model, state.get(), Slice(ids, first, GetParam()), GetParam(), options);
    const uint64_t held = state->position() - state->window_begin();
    EXPECT_LT(held, 16u + 4u);
    const auto copy = model.RestoreState(state->Serialize());
    RecordingSink tail(kRow);
    model.Flush(copy.get(), &tail);
    flushed.push_back(tail.Joined());
  }
  for (const RecordingSink::Run& run : sink.runs) EXPECT_EQ(run.ids.size() % 4, 0u);
  model.Flush(state.get(), &sink);

  uint64_t position = 0;
  for (const RecordingSink::Run& run : sink.runs) {
    EXPECT_EQ(run.position, position);
    EXPECT_EQ(run.layers, (std::vector<int>{1, 3}));
    position += run.ids.size();
  }
  const RecordingSink::Run all = sink.Joined();
  EXPECT_EQ(all.ids, ids);
  for (const RecordingSink::Run& tail : flushed) {
    for (size_t layer = 0; layer < 2; ++layer) {
      const std::vector<float>& keys = all.keys[layer];
      const auto begin = keys.begin() + static_cast<int64_t>(tail.position * kRow);
      EXPECT_TRUE(std::equal(tail.keys[layer].begin(), tail.keys[layer].end(), begin));
      const auto value = all.values[layer].begin() + static_cast<int64_t>(tail.position * kRow);
      EXPECT_TRUE(std::equal(tail.values[layer].begin(), tail.values[layer].end(), value));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Segments, Eviction, testing::Values(1, 3, 32, 203));

TEST_P(Eviction, AtOnceHandsOverTheSameTokensEarlierAlsoAfterARestore) {
  const HybridModel& model = TinyModel();
  const std::vector<int32_t> ids = RandomTokens(203, model.config().vocabulary, 23);
  RecordingSink late(kRow), early(kRow);
  ForwardOptions when_evicted, at_once;
  when_evicted.sink = &late;
  at_once.sink = &early;
  at_once.hand_over_at_once = true;
  const auto evicting = model.NewState(TinyOptions(AttentionMode::kWindow));
  auto handing = model.NewState(TinyOptions(AttentionMode::kWindow));
  for (size_t first = 0; first < ids.size(); first += GetParam()) {
    const std::vector<int32_t> segment = Slice(ids, first, GetParam());
    Read(model, evicting.get(), segment, GetParam(), when_evicted);
    Read(model, handing.get(), segment, GetParam(), at_once);
    EXPECT_EQ(handing->window_begin(), evicting->window_begin());
    size_t handed = 0;
    for (const RecordingSink::Run& run : early.runs) handed += run.ids.size();
    const size_t position = handing->position();
    const size_t sinks = handing->options().sinks;
    EXPECT_EQ(handed, position < sinks + 4 ? 0 : position / 4 * 4);
    handing = model.RestoreState(handing->Serialize());
  }
  model.Flush(evicting.get(), &late);
  model.Flush(handing.get(), &early);
  EXPECT_EQ(early.Joined().ids, ids);
  EXPECT_EQ(early.Joined().ids, late.Joined().ids);
  EXPECT_EQ(early.Joined().keys, late.Joined().keys);
  EXPECT_EQ(early.Joined().values, late.Joined().values);
  uint64_t position = 0;
  for (const RecordingSink::Run& run : early.runs) {
    EXPECT_EQ(run.position, position);
    position += run.ids.size();
  }
}

TEST(Eviction, OfTheFirstLayerCarriesTheKeysThatFullAttentionHas) {
  // Layer 1 stands before any attention: its keys do not depend on the mode. Full attention hands
  // over at the flush alone, from another code path.
  const HybridModel& model = TinyModel();
  const std::vector<int32_t> ids = RandomTokens(120, model.config().vocabulary, 24);
  RecordingSink full_sink(kRow), stream_sink(kRow);
  const auto full = model.NewState(TinyOptions(AttentionMode::kFull));
  const auto stream = model.NewState(TinyOptions(AttentionMode::kStream));
  ForwardOptions options;
  options.sink = &full_sink;
  Read(model, full.get(), ids, 9, options);
  EXPECT_TRUE(full_sink.runs.empty());
  options.sink = &stream_sink;
  Read(model, stream.get(), ids, 9, options);
  model.Flush(full.get(), &full_sink);
  model.Flush(stream.get(), &stream_sink);
  const RecordingSink::Run a = full_sink.Joined(), b = stream_sink.Joined();
  EXPECT_EQ(a.ids, b.ids);
  EXPECT_EQ(a.keys[0], b.keys[0]);
  EXPECT_EQ(a.values[0], b.values[0]);
  EXPECT_NE(a.keys[1], b.keys[1]);  // behind windowed attention: not the same text was seen
}

TEST(Eviction, OfAStreamShorterThanItsSinksIsOneRun) {
  RecordingSink sink(kRow);
  const auto state = Stream(AttentionMode::kStream, 5, &sink);
  EXPECT_TRUE(sink.runs.empty());
  TinyModel().Flush(state.get(), &sink);
  ASSERT_EQ(sink.runs.size(), 1u);
  EXPECT_EQ(sink.runs[0].position, 0u);
  EXPECT_EQ(sink.runs[0].ids.size(), 5u);
}

TEST(Eviction, OfAnEmptyStreamHandsOverNothing) {
  RecordingSink sink(kRow);
  const auto state = Stream(AttentionMode::kStream, 0);
  TinyModel().Flush(state.get(), &sink);
  EXPECT_TRUE(sink.runs.empty());
}

// Keeps the runs themselves beside copies of their rows.
class KeepingSink : public RecordingSink {
 public:
  explicit KeepingSink(int row) : RecordingSink(row) {}
  void Accept(const EvictedRun& run) override {
    RecordingSink::Accept(run);
    kept.push_back(run);
  }
  std::vector<EvictedRun> kept;
};

TEST(Eviction, RunsThatAreKeptStayAsTheyWereWhenTheStreamGoesOnAndEnds) {
  const HybridModel& model = TinyModel();
  KeepingSink sink(kRow);
  auto state = Stream(AttentionMode::kWindow, 27, &sink);
  ForwardOptions options;
  options.logit_rows = 0;
  options.sink = &sink;
  const std::vector<int32_t> ids = RandomTokens(9, model.config().vocabulary, 25);
  for (int i = 0; i < 40; ++i) model.Forward(ids, state.get(), options, nullptr);
  model.Flush(state.get(), &sink);
  state.reset();
  ASSERT_GT(sink.kept.size(), 20u);
  RecordingSink afterwards(kRow);
  for (const EvictedRun& run : sink.kept) {
    EXPECT_GE(run.bytes, static_cast<uint64_t>(run.tokens) * kRow * sizeof(float));
    afterwards.Accept(run);
  }
  EXPECT_EQ(afterwards.Joined().ids, sink.Joined().ids);
  EXPECT_EQ(afterwards.Joined().keys, sink.Joined().keys);
  EXPECT_EQ(afterwards.Joined().values, sink.Joined().values);
}

class FullSink : public BlockSink {
 public:
  void Accept(const EvictedRun&) override { throw std::runtime_error("the disk is full"); }
};

TEST(Eviction, ThatTheSinkRefusesMakesTheStateUnusable) {
  const HybridModel& model = TinyModel();
  const auto state = Stream(AttentionMode::kStream, 27);
  FullSink sink;
  ForwardOptions options;
  options.sink = &sink;
  std::vector<float> logits;
  EXPECT_THROW(model.Forward({1, 2, 3, 4}, state.get(), options, &logits), std::runtime_error);
  EXPECT_EQ(CodeOf([&] { model.Forward({1}, state.get(), ForwardOptions(), &logits); }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf([&] { state->Serialize(); }), ErrorCode::kInvalidArgument);
}

TEST(Eviction, ThatAFlushCouldNotFinishGoesOnWhereItStopped) {
  const auto state = Stream(AttentionMode::kStream, 27);
  FullSink full;
  EXPECT_THROW(TinyModel().Flush(state.get(), &full), std::runtime_error);
  RecordingSink sink(kRow);
  TinyModel().Flush(state.get(), &sink);
  ASSERT_FALSE(sink.runs.empty());
  EXPECT_EQ(sink.runs[0].position, 0u);
  EXPECT_EQ(sink.Joined().ids.size(), 27u);
}

TEST(Eviction, BoundsTheMemoryOfALongStream) {
  const HybridModel& model = TinyModel();
  const auto state = Stream(AttentionMode::kStream, 1000);
  const uint64_t bytes = state->bytes();
  ForwardOptions options;
  options.logit_rows = 0;
  const std::vector<int32_t> ids = RandomTokens(7, model.config().vocabulary, 25);
  for (int i = 0; i < 700; ++i) model.Forward(ids, state.get(), options, nullptr);
  EXPECT_EQ(state->bytes(), bytes);
}

}  // namespace
}  // namespace eidetic::model
