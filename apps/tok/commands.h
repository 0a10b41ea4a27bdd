// The commands of bin/tok: every function adds its own to the app.
#pragma once

#include "apps/options.h"

namespace qd {

void add_train(App& app);
void add_encode(App& app);
void add_decode(App& app);

}  // namespace qd
