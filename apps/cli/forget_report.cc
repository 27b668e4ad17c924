#include "apps/cli/forget_report.h"

#include <algorithm>
#include <iostream>

#include "apps/cli/characters.h"
#include "apps/cli/terminal.h"

namespace eidetic::cli {
namespace {

using nlohmann::json;

std::uint64_t count_of(const json& receipt, const char* key) {
  return receipt.value(key, std::uint64_t{0});
}

void print_sessions(const json& receipt, const char* go) {
  for (const json& session : receipt.at("sessions")) {
    const std::string name = styled(printable(session.value("name", "")), Style::kBold);
    if (session.value("removed", false)) {
      std::cout << "session " << name << ": " << go << " as a whole\n";
      continue;
    }
    std::cout << "session " << name << ": " << counted(count_of(session, "turns"), "turn") << " "
              << go << "; it stands at turn " << count_of(session, "stands_at");
    const std::uint64_t waiting = count_of(session, "waiting");
    if (waiting > 0) {
      std::cout << ", and reads " << counted(waiting, "later turn")
                << " again when it is opened next";
    }
    std::cout << "\n";
  }
}

void print_files(const json& files) {
  std::cout << counted(count_of(files, "files"), "file") << " searched, "
            << human_bytes(count_of(files, "bytes")) << ", for "
            << counted(count_of(files, "samples"), "piece");
  const std::uint64_t elsewhere = count_of(files, "elsewhere");
  if (elsewhere > 0) {
    std::cout << " (" << with_commas(elsewhere)
              << " left out: what was not forgotten says them too)";
  }
  if (files.value("clean", false)) {
    std::cout << ": " << styled("nothing is left", Style::kGreen) << "\n";
    return;
  }
  std::cout << "\n";
  for (const json& found : files.at("found")) {
    std::cout << styled("found", Style::kRed) << ": " << printable(found.get<std::string>())
              << "\n";
  }
}

}  // namespace

std::string counted(std::uint64_t count, const std::string& noun) {
  return with_commas(count) + " " + noun + (count == 1 ? "" : "s");
}

bool is_empty_receipt(const json& receipt) {
  return receipt.at("documents").empty() && receipt.at("collections").empty() &&
         receipt.at("sessions").empty();
}

void print_receipt(const json& receipt) {
  const bool dry_run = receipt.value("dry_run", false);
  const char* go = dry_run ? "would go" : "went";
  for (const json& document : receipt.at("documents")) {
    std::cout << printable(document.value("collection", "")) << ": "
              << styled(printable(document.value("source", "")), Style::kBold);
    if (!document.value("whole", true)) {
      std::cout << " bytes " << with_commas(count_of(document, "byte_begin")) << "-"
                << with_commas(count_of(document, "byte_end"));
    }
    std::cout << ", " << counted(count_of(document, "blocks"), "block") << " " << go << "\n";
  }
  for (const json& name : receipt.at("collections")) {
    std::cout << "collection " << printable(name.get<std::string>()) << " " << go << "\n";
  }
  print_sessions(receipt, go);
  print_seen(receipt);
  if (const std::uint64_t undated = count_of(receipt, "undated"); undated > 0) {
    std::cout << counted(undated, "document") << " of unknown age: left alone\n";
  }
  if (is_empty_receipt(receipt)) {
    std::cout << "nothing is that old\n";
    return;
  }
  Table table({dry_run ? "would go" : "gone", ""}, {false, true});
  for (const char* key : {"blocks", "representatives", "turns", "snapshots", "word_entries"}) {
    std::string name = key;
    std::replace(name.begin(), name.end(), '_', ' ');
    table.add({name, with_commas(count_of(receipt, key))});
  }
  table.add({"text", human_bytes(count_of(receipt, "text_bytes"))});
  std::cout << table.text();
  if (receipt.contains("files")) print_files(receipt.at("files"));
}

void print_seen(const json& receipt) {
  for (const json& seen : receipt.at("seen")) {
    std::cout << "session " << printable(seen.value("session", ""))
              << " could recall it since turn " << count_of(seen, "turn")
              << ": its state may have seen it, and what it said stays\n";
  }
}

}  // namespace eidetic::cli
