// bin/vqvae as its users run it.
#include <doctest/doctest.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "core/file.h"
#include "core/safetensors.h"
#include "data/picture.h"
#include "data/pictures.h"
#include "tests/apps/run_app.h"
#include "tests/errors.h"

using namespace qd;
using test::Outcome;
namespace fs = std::filesystem;

namespace {

struct Place : test::Workplace {
  Outcome vqvae(test::Arguments arguments) const {
    arguments.insert(arguments.begin(), "vqvae");
    return run(arguments);
  }
  test::Arguments training(const std::string& out, int steps, const std::string& quantizer = "ema") const {
    return {"vqvae", "train", "--data", "pictures", "--size", "16", "--width", "8", "--residual-width", "4", "--codes", "16", "--dim", "4", "--quantizer", quantizer,
            "--batch", "4", "--steps", std::to_string(steps), "--val-fraction", "0.25", "--out", out};
  }
  Place() {
    fs::create_directories(folder / "pictures/more");
    for (int i = 0; i < 16; ++i) {
      Picture p{20, 24, {}};
      for (int k = 0; k < 20 * 24 * 3; ++k) p.bytes.push_back(static_cast<uint8_t>(i * 13 + k / (20 + i) * 3));
      write_png(folder / (std::string("pictures/") + (i % 2 ? "more/" : "") + "p" + std::to_string(i / 2) + ".png"), p);
    }
    write_file(folder / "pictures/notes.txt", "no picture");
  }
};

}  // namespace

TEST_CASE("vqvae: trains, reconstructs, encodes and decodes to the same bytes") {
  if (!test::is_built("vqvae")) return;
  for (const std::string quantizer : {"ema", "vq", "simvq", "fsq", "ema, two levels"}) {
    INFO(quantizer);
    const Place at;
    const bool two = quantizer.ends_with("levels");
    auto flags = at.training("run", 6, quantizer.substr(0, quantizer.find(',')));
    if (two) flags.insert(flags.end(), {"--levels", "2"});
    const auto trained = at.json(flags);
    for (const char* key : {"steps", "seconds", "peak_rss_mib", "train_loss", "images_per_second", "val_psnr", "val_mse", "codes_used", "perplexity"})
      CHECK(trained.contains(key));
    CHECK(read_file(at / "run/report.html").find("<figcaption>step 6, validation loss") != std::string::npos);
    CHECK((read_picture(at / "run/samples/step-000006.png").width / 6 + 2) % (16 + 2) == 0);   // enlarged six times, two pixels between
    const auto scored = at.json({"vqvae", "reconstruct", "--model", "run", "--data", "pictures", "--out", "beside.png"});
    CHECK(scored["pictures"] == 16);
    CHECK(scored["psnr"].get<double>() > 3);
    CHECK(scored["bits_per_pixel"] == (two ? 0.3125 : 0.25));
    CHECK(read_picture(at / "beside.png").width == 8 * 16 + 7 * 2);
    CHECK(at.vqvae({"reconstruct", "--model", "run", "--data", "pictures", "--out", "direct"}).status == 0);
    CHECK(at.vqvae({"encode", "--model", "run", "--data", "pictures", "--out", "codes"}).status == 0);
    CHECK(at.vqvae({"decode", "--model", "run", "--codes", "codes", "--out", "decoded"}).status == 0);
    int files = 0;
    for (const auto& entry : fs::directory_iterator(at / "direct")) {
      CHECK(read_file(entry.path().string()) == read_file(at / ("decoded/" + entry.path().filename().string())));
      ++files;
    }
    CHECK(files == 16);
    if (!two) continue;
    const auto learned = at.json({"vqvae", "prior", "--model", "run", "--data", "pictures", "--width", "16", "--layers", "1", "--heads", "2", "--batch", "4", "--steps", "3"});
    CHECK(learned["val_bits_per_code"].get<double>() > 0);
    CHECK(at.vqvae({"sample", "--model", "run", "--count", "4", "--out", "new.png"}).status == 0);
    CHECK(at.json({"vqvae", "prior", "--model", "run", "--data", "pictures", "--kind", "pixelcnn", "--width", "8", "--batch", "4", "--steps", "3", "--out", "cnn"})["val_bits_per_code"].get<double>() > 0);
    CHECK(at.vqvae({"sample", "--model", "run", "--prior", "cnn", "--count", "2", "--out", "cnn.png"}).status == 0);
    CHECK(test::has(at.vqvae({"interpolate", "--model", "run", "--from", "pictures/p1.png", "--to", "pictures/p3.png", "--out", "x.png"}).err, "a model of one grid"));
  }
}

TEST_CASE("vqvae: a prior learns the codes, goes on where it was, and gives new pictures") {
  if (!test::is_built("vqvae")) return;
  const Place at;
  REQUIRE(at.run(at.training("run", 6)).status == 0);
  const test::Arguments flags = {"vqvae", "prior", "--model", "run", "--data", "pictures", "--width", "16", "--layers", "1", "--heads", "2", "--batch", "4", "--schedule", "constant"};
  const auto with = [&](std::initializer_list<std::string> more) {
    test::Arguments all = flags;
    all.insert(all.end(), more);
    return all;
  };
  const auto learned = at.json(with({"--steps", "6"}));
  CHECK(learned["val_bits_per_code"].get<double>() > 0);
  CHECK(learned["histogram_bits_per_code"].get<double>() > 0);
  CHECK(at.run(with({"--steps", "3", "--kind", "pixelcnn", "--out", "cnn"})).status == 0);
  CHECK(at.vqvae({"sample", "--model", "run", "--prior", "cnn", "--count", "4", "--out", "cnn.png"}).status == 0);
  CHECK(at.run(with({"--steps", "4", "--out", "parts"})).status == 0);
  CHECK(at.vqvae({"prior", "--resume", "parts", "--steps", "6"}).status == 0);
  CHECK(at.run({"inspect", "run/prior/model.safetensors", "--against", "parts/model.safetensors"}).out.find("largest difference is 0") != std::string::npos);
  CHECK(at.json({"vqvae", "sample", "--model", "run", "--count", "9", "--out", "new.png"})["pictures"] == 9);
  CHECK(read_picture(at / "new.png").width == 3 * 16 + 2 * 2);
  CHECK(at.vqvae({"sample", "--model", "run", "--prior", "parts", "--count", "9", "--out", "again.png"}).status == 0);
  CHECK(read_file(at / "new.png") == read_file(at / "again.png"));
  CHECK(at.vqvae({"interpolate", "--model", "run", "--from", "pictures/p1.png", "--to", "pictures/p3.png", "--steps", "5", "--out", "between.png"}).status == 0);
  CHECK(read_picture(at / "between.png").width == 5 * 16 + 4 * 2);
  REQUIRE(at.run(at.training("other", 3)).status == 0);
  CHECK(test::has(at.vqvae({"sample", "--model", "other", "--out", "x.png"}).err, "expected a prior, there is none"));
  CHECK(test::has(at.vqvae({"sample", "--model", "other", "--prior", "parts", "--out", "x.png"}).err, "expected a prior of this model's codes"));
}

TEST_CASE("vqvae: 6 steps = 4 + 2 in bits, with batch norms, k-means, two levels") {
  if (!test::is_built("vqvae")) return;
  for (const test::Arguments& more : {test::Arguments{"--net", "post"}, {"--quantizer", "vq", "--kmeans"}, {"--levels", "2"}}) {
    INFO(more[1]);
    const Place at;
    const auto with = [&](const std::string& out, int steps) {
      auto flags = at.training(out, steps);
      if (more[0] == "--quantizer") flags.erase(std::find(flags.begin(), flags.end(), "--quantizer"), std::find(flags.begin(), flags.end(), "--quantizer") + 2);
      flags.insert(flags.end(), {"--schedule", "constant"});
      flags.insert(flags.end(), more.begin(), more.end());
      return flags;
    };
    CHECK(at.run(with("whole", 6)).status == 0);
    CHECK(at.run(with("parts", 4)).status == 0);
    CHECK(at.vqvae({"train", "--resume", "parts", "--steps", "6"}).status == 0);
    CHECK(at.run({"inspect", "whole/model.safetensors", "--against", "parts/model.safetensors"}).out.find("largest difference is 0") != std::string::npos);
  }
}

TEST_CASE("vqvae: 8 steps = 5 + 3 in bits, the codebook and the pictures with them") {
  if (!test::is_built("vqvae")) return;
  const Place at;
  CHECK(at.run(at.training("whole", 8)).status == 0);
  auto parts = at.training("parts", 8);
  parts.insert(parts.end(), {"--schedule", "constant"});
  auto whole = at.training("constant", 8);
  whole.insert(whole.end(), {"--schedule", "constant"});
  for (size_t i = 0; i < parts.size(); ++i)
    if (parts[i] == "--steps") parts[i + 1] = "5";
  CHECK(at.run(whole).status == 0);
  CHECK(at.run(parts).status == 0);
  CHECK(at.vqvae({"train", "--resume", "parts", "--steps", "8", "--threads", "1"}).status == 0);
  CHECK(at.run({"inspect", "constant/model.safetensors", "--against", "parts/model.safetensors"}).out.find("largest difference is 0") != std::string::npos);
  auto again = at.training("again", 8);
  again.insert(again.end(), {"--recompute", "1"});
  CHECK(at.run(again).status == 0);
  CHECK(at.run({"inspect", "again/model.safetensors", "--against", "whole/model.safetensors"}).out.find("largest difference is 0") != std::string::npos);
}

TEST_CASE("vqvae: a signal saves and leaves, and the report still has its pictures") {
  if (!test::is_built("vqvae")) return;
  const Place at;
  auto flags = at.training("run", 100000000);
  flags[0] = test::program("vqvae"), flags.insert(flags.end(), {"--eval-every", "1"});
  test::Process process(flags, at / "");
  test::until_written(process, at / "run/metrics.jsonl");
  process.send(SIGINT);
  const Outcome o = process.wait();
  CAPTURE(o.err);
  CHECK(o.status == 130);
  const std::string report = read_file(at / "run/report.html");
  CHECK(report.find("Three rows each") != std::string::npos);
  CHECK(report.find("Codes</h2>") != std::string::npos);
}

TEST_CASE("vqvae: files that are no pictures stand before the pictures, and no run ends for them") {
  if (!test::is_built("vqvae")) return;
  const Place at;
  fs::create_directories(at / "pictures/annotations");
  for (int i = 0; i < 60; ++i) write_file(at / ("pictures/annotations/" + std::to_string(i) + ".xml"), "<box/>");
  auto flags = at.training("run", 6);
  flags.insert(flags.end(), {"--eval-every", "2"});
  const Outcome o = at.run(flags);
  CAPTURE(o.err);
  CHECK(o.status == 0);
  CHECK(o.says("skipped: "));
  CHECK(o.says("of 77 files are no pictures or are damaged: skipped"));
}

TEST_CASE("vqvae: codes are packed to their bits, and hostile files of codes are refused") {
  if (!test::is_built("vqvae")) return;
  const Place at;
  auto flags = at.training("run", 2);
  *(std::find(flags.begin(), flags.end(), "--codes") + 1) = "500";   // 9 bits
  REQUIRE(at.run(flags).status == 0);
  CHECK(at.json({"vqvae", "encode", "--model", "run", "--data", "pictures", "--out", "codes"})["bytes"] == 16 * 18);   // 16 codes of 9 bits a picture
  REQUIRE(at.vqvae({"decode", "--model", "run", "--codes", "codes", "--out", "decoded"}).status == 0);
  REQUIRE(at.vqvae({"reconstruct", "--model", "run", "--data", "pictures", "--out", "direct"}).status == 0);
  for (const auto& entry : fs::directory_iterator(at / "direct"))
    CHECK(read_file(entry.path().string()) == read_file(at / ("decoded/" + entry.path().filename().string())));
  const std::string file = read_file(at / "codes");
  std::string beyond = file;
  std::fill(beyond.end() - 18, beyond.end(), '\xff');
  State fewer = read_safetensors(at / "codes"), other = fewer, unnamed = fewer;
  fewer.tensors["codes.0"] = zeros({16, 17}, DType::u8);
  other.tensors["codes.0"] = zeros({16, 18});
  unnamed.texts["names"] = "[1]";
  write_file(at / "beyond", beyond);
  write_safetensors(at / "fewer", fewer), write_safetensors(at / "other", other), write_safetensors(at / "unnamed", unnamed);
  for (const auto& [name, expected] : {std::pair{"beyond", "expected codes below 500, got 511"}, {"fewer", "expected codes.0 (16, 18) of bytes, got (16, 17)"},
                                       {"other", "expected codes.0 (16, 18) of bytes"}, {"unnamed", "expected 'names' to be a list of 16 texts"}}) {
    const Outcome o = at.vqvae({"decode", "--model", "run", "--codes", name, "--out", "d"});
    CAPTURE(o.err);
    CHECK(o.status == 1);
    CHECK(o.says(expected));
    CHECK(!fs::exists(at / "d"));
  }
}

TEST_CASE("vqvae: drawn faces are there when a run goes on") {
  if (!test::is_built("vqvae")) return;
  const Place at;
  CHECK(at.vqvae({"train", "--data", "faces", "--size", "8", "--width", "8", "--codes", "8", "--dim", "4", "--batch", "4", "--steps", "2", "--val-fraction", "0.001",
                  "--out", "run"}).status == 0);
  CHECK(at.vqvae({"train", "--resume", "run", "--steps", "3"}).status == 0);
  for (const std::string damage : {R"({"model_type": "qiudao-vqvae"})", R"({"model_type": "gpt2"})", "[1]", "{"}) {
    write_file(at / "run/config.json", damage);
    const Outcome o = at.vqvae({"reconstruct", "--model", "run", "--data", "faces", "--out", "x.png"});
    INFO(o.err);
    CHECK(o.status == 1);
    CHECK(test::has(o.err, "run/config.json"));
  }
}

TEST_CASE("vqvae: wrong input is an error with a hint") {
  if (!test::is_built("vqvae")) return;
  const Place at;
  REQUIRE(at.run(at.training("run", 2)).status == 0);
  REQUIRE(at.run(at.training("other", 3)).status == 0);
  REQUIRE(at.vqvae({"encode", "--model", "run", "--data", "pictures", "--out", "codes"}).status == 0);
  fs::create_directories(at / "empty");
  fs::create_directories(at / "texts");
  write_file(at / "texts/a.jpg", "no picture");
  write_file(at / "cut", read_file(at / "codes").substr(0, 300));
  const std::vector<std::pair<test::Arguments, std::string>> cases = {
      {{"train", "--data", "none"}, "there is none"},
      {{"train", "--data", "empty"}, "found no file"},
      {{"train", "--data", "texts"}, "none of 1 files can be read"},
      {{"train", "--size", "30"}, "[--size] expected a multiple of 4, got 30"},
      {{"train", "--size", "12", "--levels", "2"}, "[--size] expected a multiple of 8, got 12"},
      {{"train", "--net", "post", "--levels", "2"}, "[--levels] expected 1 with --net post, got 2"},
      {{"train", "--quantizer", "fsq", "--codes", "509"}, "expected a product of numbers"},
      {{"train", "--out", "run"}, "run"},
      {{"train", "--val", "faces"}, "[--val] expected a folder of pictures, got faces"},
      {{"prior", "--model", "run", "--data", "pictures", "--val-fraction", "0"}, "[--val-fraction] expected a number above 0"},
      {{"prior", "--model", "run", "--data", "pictures", "--kind", "pixelcnn", "--recompute", "1"}, "[--recompute] expected 0"},
      {{"reconstruct", "--model", "run", "--data", "pictures", "--out", "pictures"}, "expected a new or an empty folder"},
      {{"sample", "--model", "run", "--count", "0", "--out", "x.png"}, "--count"},
      {{"interpolate", "--model", "run", "--from", "pictures", "--to", "pictures", "--out", "x.png"}, "got a folder"},
      {{"reconstruct", "--model", "none", "--data", "pictures", "--out", "x.png"}, "none/config.json"},
      {{"reconstruct", "--model", "run", "--data", "pictures"}, "[--out] expected FILE.png or a folder"},
      {{"decode", "--model", "other", "--codes", "codes", "--out", "d"}, "expected codes of the model in other, these are of another one"},
      {{"decode", "--model", "run", "--codes", "cut", "--out", "d"}, "cut"},
      {{"decode", "--model", "run", "--codes", "run/model.safetensors", "--out", "d"}, "expected a file of codes"},
      {{"decode", "--model", "run", "--out", "d"}, "[--codes] expected a file of codes"},
  };
  for (const auto& [arguments, expected] : cases) {
    const Outcome o = at.vqvae(arguments);
    INFO(o.err);
    CHECK(o.status == 1);
    CHECK(test::has(o.err, expected));
    CHECK(!fs::exists(at / "d"));
  }
}
