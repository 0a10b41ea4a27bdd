#include "data/discover.h"
namespace qd {
std::vector<FoundWord> discover_best(const Characters&, const DiscoverOptions&, const DiscoverProgress&) { return {}; }
}
