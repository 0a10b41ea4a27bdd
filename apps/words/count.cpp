#include "apps/words/commands.h"

namespace qd {

void add_count(App&) {}

}  // namespace qd
