#include "apps/words/commands.h"

namespace qd {

void add_score(App&) {}

}  // namespace qd
