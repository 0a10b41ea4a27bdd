#include "apps/lab/lab.h"

namespace qd {

void add_words(App&) {}

}  // namespace qd
