// Priors in directories, what they see of a picture, and the pictures that they give: what `prior` and `sample` share.
#pragma once

#include <string>
#include <vector>

#include "apps/vqvae/commands.h"
#include "models/prior.h"

namespace qd {

// What a prior sees of a picture: its grid of codes. Of two grids the coarse one stands above the fine one, whose rows are cut in two, and whose
// codes have numbers of their own: so the fine grid depends on all of the coarse one.
struct OneGrid {
  int64_t rows, columns, codes;   // codes: of all grids
};
OneGrid one_grid(const PictureModel& m);
// Such grids of pictures, (N, rows, columns); broken ones are left out.
Tensor grids_of(const PictureModel& m, const PictureSet& set, const std::vector<int64_t>& pictures);
Codes codes_of_grids(const PictureModel& m, const Tensor& grids);   // and back

// prior.json: the kind and the sizes, and whose codes they are. Reading throws Error: none, a damaged one, or one that learned the codes of
// another model.
void write_prior_config(const std::string& folder, const PriorConfig& c, const std::string& fingerprint);
PriorConfig read_prior_config(const std::string& folder, const PictureModel& m);

Picture new_pictures(const PictureModel& m, const Prior& prior, int64_t count, const SampleOptions& o);   // a square grid of them

}  // namespace qd
