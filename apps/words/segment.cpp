#include "apps/words/commands.h"

namespace qd {

void add_segment(App&) {}

}  // namespace qd
