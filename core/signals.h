// SIGINT and SIGTERM as a wish to end: work that can be left in good order looks for it and leaves.
#pragma once

#include <signal.h>

namespace qd {

// While one lives, the first SIGINT and the first SIGTERM are noted; the second does what it always does. One at a time.
class NoteSignals {
 public:
  NoteSignals();
  ~NoteSignals();
  NoteSignals(const NoteSignals&) = delete;

 private:
  struct sigaction interrupt_, terminate_;
};

bool interrupted();   // a signal was noted since the last NoteSignals began

}  // namespace qd
