// The autograd graph of one training step of a model.
#include <algorithm>
#include <filesystem>
#include <numeric>

#include "apps/inspect/inspect.h"
#include "apps/options.h"
#include "core/error.h"
#include "core/file.h"
#include "core/graph.h"
#include "models/gpt_files.h"

namespace qd {

int draw(const std::string& folder, const std::string& out) {
  constexpr int64_t longest = 8;   // the graph is the same for any number of tokens
  std::error_code ignored;
  QD_CHECK(std::filesystem::is_directory(folder, ignored), "--graph", str("expected the directory of a model, got ", folder),
           "a file of weights does not say what is computed with them");
  const GPTConfig config = read_config(folder);
  const auto model = load_gpt(folder, config);
  model->train();
  std::vector<int32_t> ids(static_cast<size_t>(std::min(longest, config.context)));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(static_cast<int64_t>(i) % config.vocab);
  const Tensor window = tensor(ids, {1, std::ssize(ids)});
  const Tensor loss = model->loss(window, window);
  std::vector<std::pair<std::string, Tensor>> leaves;
  for (const Parameter* p : model->parameters()) leaves.emplace_back(p->path(), p->value);
  const std::string dot = graph_of(loss, leaves);
  if (out == "-") print(dot);
  else write_file(out, dot);
  return 0;
}

}  // namespace qd
