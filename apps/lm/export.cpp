// bin/lm export: a model for other programs, in the layout of Hugging Face's GPT-2.
#include <filesystem>
#include <set>

#include "apps/language.h"
#include "apps/lm/commands.h"
#include "core/error.h"
#include "core/file.h"
#include "models/gpt_files.h"

namespace qd {
namespace fs = std::filesystem;
namespace {

struct ExportOptions {
  std::string model, out;
};

// A directory that gets all of its new files or none.
class NewFiles {
 public:
  explicit NewFiles(const std::string& folder) : folder_(folder) {
    std::error_code error;
    made_ = fs::create_directories(folder, error);
    QD_CHECK(!error && fs::is_directory(folder), folder, str("expected to make this directory: ", error ? error.message() : "it is a file"));
    for (const fs::path& path : paths()) before_.insert(path);
  }
  ~NewFiles() {
    if (kept_) return;
    std::error_code ignored;
    for (const fs::path& path : paths())
      if (!before_.contains(path)) fs::remove(path, ignored);
    if (made_) fs::remove(folder_, ignored);
  }
  NewFiles(const NewFiles&) = delete;
  void keep() { kept_ = true; }

 private:
  std::set<fs::path> paths() const {
    std::error_code ignored;
    std::set<fs::path> all;
    for (const auto& entry : fs::directory_iterator(folder_, ignored)) all.insert(entry.path());
    return all;
  }
  const std::string folder_;
  std::set<fs::path> before_;
  bool made_ = false, kept_ = false;
};

void expect_no_model(const std::string& folder) {
  for (const char* file : {"config.json", "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "tokenizer.json",
                           "vocab.json", "merges.txt", "qiudao_tokenizer.json", "last.safetensors"}) {
    QD_CHECK(!is_there((fs::path(folder) / file).string()), "--out", str("expected a directory without a model, ", folder, " holds ", file),
             "choose another --out");
  }
}

int export_model(const ExportOptions& o) {
  QD_CHECK(!o.model.empty(), "--model", "expected the directory of a model, got none", "--model runs/lm-001");
  QD_CHECK(!o.out.empty(), "--out", "expected a directory for the exported model, got none", "--out exported");
  const GPTConfig config = read_config(o.model);
  std::string beyond;
  for (const std::string& option : beyond_gpt2(config)) beyond += (beyond.empty() ? "" : ", ") + option;
  QD_CHECK(beyond.empty(), o.model, str("expected a model that GPT-2's format can express, got one with ", beyond),
           "train one without these options; this program reads the directory as it is");
  expect_no_model(o.out);

  const bool speaks = has_tokenizer(o.model);
  const auto tokenizer = speaks ? tokenizer_of(o.model, "", config.vocab) : nullptr;
  const auto model = load_gpt(o.model, config);
  NewFiles files(o.out);
  write_gpt2_weights(o.out, *model);
  if (speaks) tokenizer->save(o.out);
  write_config(o.out, config, speaks ? tokenizer->end_of_text() : -1);   // the last: without it a directory is no model
  files.keep();

  if (!speaks) warn(str(o.model, " holds no tokenizer, and so does ", o.out));
  if (is_there(o.out + "/qiudao_tokenizer.json")) log("other programs cannot read the tokenizer, qiudao_tokenizer.json: ids are all that they have in common");
  log(str("exported ", model->parameter_count(), " parameters to ", o.out));
  return 0;
}

}  // namespace

void add_export(App& app) {
  static ExportOptions o;
  app.command("export", "Write a model as Hugging Face's GPT-2, for other programs", [] { return export_model(o); })
      .option("--model", o.model, "DIR", model_help)
      .option("--out", o.out, "DIR", "directory for config.json, model.safetensors and the tokenizer");
}

}  // namespace qd
