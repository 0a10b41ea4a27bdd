#include "apps/words/commands.h"

namespace qd {

void add_discover(App&) {}

}  // namespace qd
