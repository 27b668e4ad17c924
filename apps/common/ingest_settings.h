// A document that is read as a session of given settings reads.
#ifndef EIDETIC_APPS_COMMON_INGEST_SETTINGS_H_
#define EIDETIC_APPS_COMMON_INGEST_SETTINGS_H_

#include <string>
#include <string_view>

#include "eidetic/eidetic.hpp"

namespace eidetic::apps {

// Of the session's codec, window, sinks and segment. `text` is looked at while it is ingested.
inline IngestOptions ingest_as(const SessionOptions& session, const std::string& collection,
                               const std::string& source, std::string_view text) {
  IngestOptions options{.collection = collection, .source = source, .text = text};
  options.codec = session.codec;
  options.window = session.window;
  options.sinks = session.sinks;
  options.segment = session.segment;
  return options;
}

}  // namespace eidetic::apps

#endif  // EIDETIC_APPS_COMMON_INGEST_SETTINGS_H_
