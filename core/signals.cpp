#include "core/signals.h"

namespace qd {
namespace {

volatile sig_atomic_t signalled = 0;

}  // namespace

NoteSignals::NoteSignals() {
  signalled = 0;
  struct sigaction note = {};
  note.sa_handler = [](int) { signalled = 1; };
  note.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  sigaction(SIGINT, &note, &interrupt_);
  sigaction(SIGTERM, &note, &terminate_);
}

NoteSignals::~NoteSignals() {
  sigaction(SIGINT, &interrupt_, nullptr);
  sigaction(SIGTERM, &terminate_, nullptr);
}

bool interrupted() { return signalled != 0; }

}  // namespace qd
