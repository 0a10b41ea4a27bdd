// The commands of bin/words: every function adds its own to the app.
#pragma once

#include "apps/options.h"

namespace qd {

void add_count(App& app);
void add_discover(App& app);
void add_segment(App& app);
void add_score(App& app);

}  // namespace qd
