// A folder that appears at its path whole, or not at all.
#ifndef EIDETIC_MODEL_TRAIN_ATOMIC_FOLDER_H_
#define EIDETIC_MODEL_TRAIN_ATOMIC_FOLDER_H_

#include <string>

namespace eidetic::model {

// Files are written into temporary(), `PATH.partial`, each flushed to disk by whoever writes it
// (atomic_file.h). Commit puts the folder in place of whatever was at the path; without Commit the
// destructor removes it. One writer at a time for a path. Not thread-safe.
class AtomicFolder {
 public:
  // Throws Error: kNotFound (the parent), kIo, kNoSpace; so does Commit.
  explicit AtomicFolder(const std::string& path);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const std::string& temporary() const { return temporary_; }
  // After it returns, a power cut leaves the new folder. A kill during it leaves the old one or the
  // new one, perhaps only after Recover.
  void Commit();

  // Removes what a writer that was killed left beside the path, and finishes what it had begun.
  static void Recover(const std::string& path);

 private:
  std::string path_, temporary_;
  bool committed_ = false;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_ATOMIC_FOLDER_H_
