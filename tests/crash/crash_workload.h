// What the killed process of the crash tests does: it ingests documents, forgets some of them and
// saves a session in one archive, and says so whenever something has been acknowledged.
#ifndef EIDETIC_TESTS_CRASH_CRASH_WORKLOAD_H_
#define EIDETIC_TESTS_CRASH_CRASH_WORKLOAD_H_

#include <cstdint>
#include <functional>
#include <string>

#include "memory/archive.h"

namespace eidetic::memory::testing {

struct Workload {
  int documents = 3;
  uint64_t document_tokens = 1900;  // the last block is a partial one
  uint64_t commit_tokens = 160;     // between commits
  size_t reader_state_bytes = 300000;
  uint64_t seed = 0;
};

Layout WorkloadLayout();
std::string WorkloadSource(int document);
// The text, and the block at a position: of the seed and their place alone.
std::string WorkloadText(const Workload& workload, int document);
Block WorkloadBlock(const Workload& workload, int document, uint64_t position);
std::string WorkloadReaderState(const Workload& workload, int document, uint64_t committed);
std::string WorkloadSessionRecord(const Workload& workload, uint64_t turn);
// The session's block of a turn.
Block WorkloadTurn(const Workload& workload, uint64_t turn);

// Whether a document is forgotten as soon as the one after it is finished.
bool WorkloadForgets(const Workload& workload, int document);

// Does what is left of the workload. `acknowledge` is told "document I T" (T tokens of document I
// are durable), "finished I", "forgotten I" and "session N" (turn N is durable) as soon as they
// are.
Status RunWorkload(const std::string& path, const Workload& workload,
                   const std::function<void(const std::string&)>& acknowledge);

}  // namespace eidetic::memory::testing

#endif  // EIDETIC_TESTS_CRASH_CRASH_WORKLOAD_H_
