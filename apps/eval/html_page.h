// A report as one HTML page: its style is in it, and it needs nothing from outside.
#ifndef EIDETIC_APPS_EVAL_HTML_PAGE_H_
#define EIDETIC_APPS_EVAL_HTML_PAGE_H_

#include <sstream>
#include <string>
#include <vector>

namespace eidetic::eval {

// A table, heading first.
using Rows = std::vector<std::vector<std::string>>;

class HtmlPage {
 public:
  HtmlPage(const std::string& title, const std::string& subtitle);

  // `shares`, as large as `rows` where it is given, colours the cells with a share of 0..1; those
  // below 0 stay white.
  void add_table(const std::string& title, const std::string& note, const Rows& rows,
                 const std::vector<std::vector<double>>& shares = {});
  void add_markup(const std::string& markup);
  std::string text() const;

 private:
  std::ostringstream page_;
};

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_HTML_PAGE_H_
