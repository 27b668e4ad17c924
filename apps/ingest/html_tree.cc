#include "apps/ingest/html_tree.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <csetjmp>
#include <cstring>
#include <vector>

#include "eidetic/eidetic.hpp"

namespace eidetic::ingest {
namespace {

constexpr std::size_t kMostBytes = 256u << 20;
constexpr std::size_t kMostNested = 2000;
// A usual page takes about 10 bytes a byte of it, one that is all tags 60.
constexpr std::size_t kArenaBytes = 64u << 20, kArenaBytesPerByte = 128;

// Elements that never hold others, or that the next of their kind closes.
constexpr std::array<std::string_view, 30> kNeverNested = {
    "area",  "base",  "body", "br",     "caption", "col",   "colgroup", "dd",   "dt",   "embed",
    "frame", "head",  "hr",   "html",   "img",     "input", "li",       "link", "meta", "option",
    "p",     "param", "rp",   "source", "rt",      "tbody", "td",       "th",   "tr",   "wbr"};

bool is_never_nested(std::string_view name) {
  return std::find(kNeverNested.begin(), kNeverNested.end(), name) != kNeverNested.end();
}

std::string readable(std::size_t number) {
  return std::to_string(number);
}

}  // namespace

// Memory that is given back all at once: Gumbo's own way of freeing a tree recurses into it.
class HtmlTree::Arena {
 public:
  explicit Arena(std::size_t budget) : budget_(budget) {}

  // The allocator of Gumbo, which cannot deal with NULL: past the budget, it goes back to where
  // parsing began. No frame in between has anything to destroy.
  static void* allocate(void* self, std::size_t bytes) {
    auto* arena = static_cast<Arena*>(self);
    void* memory = arena->take(bytes);
    if (memory == nullptr) std::longjmp(arena->full, 1);
    return memory;
  }
  static void release(void*, void*) {}

  std::jmp_buf full;

 private:
  static constexpr std::size_t kChunkBytes = 1u << 20;

  void* take(std::size_t bytes) {
    bytes = (bytes + 15) / 16 * 16;
    if (bytes > left_) {
      const std::size_t chunk = std::max(bytes, kChunkBytes);
      if (chunk > budget_) return nullptr;
      auto* memory = new (std::nothrow) char[chunk];
      if (memory == nullptr) return nullptr;
      chunks_.emplace_back(memory);
      budget_ -= chunk;
      next_ = memory;
      left_ = chunk;
    }
    void* memory = next_;
    next_ += bytes;
    left_ -= bytes;
    return memory;
  }

  std::size_t budget_;
  std::vector<std::unique_ptr<char[]>> chunks_;
  char* next_ = nullptr;
  std::size_t left_ = 0;
};

std::size_t nesting_of(std::string_view page) {
  std::size_t open = 0, most = 0;
  for (std::size_t at = 0; (at = page.find('<', at)) != std::string_view::npos;) {
    ++at;
    const bool closes = at < page.size() && page[at] == '/';
    if (closes) ++at;
    std::string name;
    while (at < page.size() && std::isalnum(static_cast<unsigned char>(page[at])) &&
           name.size() < 16) {
      name += static_cast<char>(std::tolower(static_cast<unsigned char>(page[at++])));
    }
    if (name.empty() || !std::isalpha(static_cast<unsigned char>(name[0])) ||
        is_never_nested(name)) {
      continue;
    }
    if (closes) {
      open -= open > 0;
    } else {
      most = std::max(most, ++open);
    }
  }
  return most;
}

HtmlTree::HtmlTree(std::string_view page, const std::string& name) {
  if (page.size() > kMostBytes) {
    throw Error(EID_UNSUPPORTED,
                name + " has " + readable(page.size()) + " bytes, a web page may have " +
                    readable(kMostBytes),
                "split it, or extract its text first and ingest that");
  }
  if (const std::size_t nested = nesting_of(page); nested > kMostNested) {
    throw Error(EID_UNSUPPORTED,
                name + " has " + readable(nested) + " elements open at once, a web page may have " +
                    readable(kMostNested),
                "is it a web page? Ingest it with --format text, or extract its text first");
  }
  arena_ = std::make_unique<Arena>(kArenaBytes + kArenaBytesPerByte * page.size());
  GumboOptions options = kGumboDefaultOptions;
  options.allocator = Arena::allocate;
  options.deallocator = Arena::release;
  options.userdata = arena_.get();
  options.max_errors = 0;
  if (setjmp(arena_->full) == 0) {
    output_ = gumbo_parse_with_options(&options, page.data(), page.size());
    return;
  }
  throw Error(EID_UNSUPPORTED, name + " has more elements than a web page of its size may have",
              "is it a web page? Ingest it with --format text, or extract its text first");
}

HtmlTree::~HtmlTree() = default;

}  // namespace eidetic::ingest
