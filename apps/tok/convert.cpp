#include "apps/tok/convert.h"

#include <cmath>

#include "apps/tok/commands.h"
#include "core/error.h"
#include "core/log.h"
#include "core/parallel.h"

namespace qd {

void ConvertOptions::describe(Command& command, const char* about_file, const char* about_whole) {
  command.option("--model", model, "DIR", "folder with a tokenizer: of bin/tok, of a run, or of Hugging Face")
      .option("file", file, "FILE|-", about_file)
      .flag("--whole", whole, about_whole)
      .option("--threads", threads, "N", "0: all processors", from_to(0, 1024))
      .flag("--json", json, "the last line on standard output is a JSON object");
}

std::unique_ptr<Tokenizer> ConvertOptions::tokenizer() const {
  QD_CHECK(!model.empty(), "--model", "expected a folder with a tokenizer, got none", "bin/tok train makes one");
  if (threads > 0) set_threads(static_cast<int>(threads));
  return load_tokenizer(model);
}

void Totals::report(bool json, bool line_ended) const {
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double per_token = tokens > 0 ? static_cast<double>(bytes) / static_cast<double>(tokens) : 0;
  const double rate = static_cast<double>(bytes) / 1e6 / seconds;
  log(str(bytes, " bytes, ", tokens, " tokens, ", std::round(per_token * 1000) / 1000, " bytes per token, ",
          std::round(rate * 10) / 10, " MB/s"));
  if (!json) return;
  if (!line_ended) print("\n");
  print_json({{"bytes", bytes}, {"tokens", tokens}, {"bytes_per_token", per_token}, {"seconds", seconds}});
}

}  // namespace qd
