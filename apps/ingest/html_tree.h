// A parsed web page: Gumbo's tree over an arena of bounded size.
#ifndef EIDETIC_APPS_INGEST_HTML_TREE_H_
#define EIDETIC_APPS_INGEST_HTML_TREE_H_

#include <gumbo.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace eidetic::ingest {

class HtmlTree {
 public:
  // `page` is UTF-8 and must outlive the tree. Throws Error (EID_UNSUPPORTED): nested too deeply,
  // or more elements than such a page can reasonably have. `name` is for messages.
  HtmlTree(std::string_view page, const std::string& name);
  ~HtmlTree();
  HtmlTree(const HtmlTree&) = delete;
  HtmlTree& operator=(const HtmlTree&) = delete;

  const GumboNode* root() const { return output_->root; }

 private:
  class Arena;
  std::unique_ptr<Arena> arena_;
  const GumboOutput* output_ = nullptr;
};

// How many elements of `page` are open at once at most, roughly: an upper bound for tags that must
// be closed. In linear time, by looking at tags alone.
std::size_t nesting_of(std::string_view page);

}  // namespace eidetic::ingest

#endif  // EIDETIC_APPS_INGEST_HTML_TREE_H_
