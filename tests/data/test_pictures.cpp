// Collections of pictures: folders with all that lies in them, the part held out, batches that go on where they were.
#include "data/pictures.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>
#include <thread>

#include "core/file.h"
#include "data/cartoon_faces.h"
#include "tests/errors.h"
#include "tests/temp_dir.h"

using namespace qd;
using namespace qd::test;
namespace fs = std::filesystem;

namespace {

// A picture of one colour, which tells it from others after any resizing.
Picture flat(int64_t width, int64_t height, uint8_t value) {
  Picture p{width, height, {}};
  p.bytes.resize(static_cast<size_t>(width * height * 3));
  std::fill(p.bytes.begin(), p.bytes.end(), value);
  return p;
}

struct Folder {
  TempDir folder;
  std::string operator/(const std::string& name) const { return folder / name; }
  Folder() {
    fs::create_directories(folder / "a/b");
    fs::create_directories(folder / ".hidden");
    for (int i = 0; i < 5; ++i) write_png(folder / ("a/" + std::to_string(i) + ".png"), flat(20 + i, 12, static_cast<uint8_t>(40 * i + 10)));
    write_png(folder / "a/b/deep.jpg", flat(9, 9, 240));   // a PNG with another name
    write_png(folder / ".hidden/no.png", flat(9, 9, 1));
    write_file(folder / "a/notes.txt", "no picture");
    write_file(folder / "a/b/cut.png", png_bytes(flat(30, 30, 7)).substr(0, 60));
  }
};

std::vector<int> first_bytes(const Tensor& batch) {
  std::vector<int> values;
  for (int64_t i = 0; i < batch.dim(0); ++i) values.push_back(to_picture(batch, i).bytes[0]);
  return values;
}

}  // namespace

TEST_CASE("pictures: a folder gives its pictures; what is none is named, once, and stands in nobody's way") {
  const Folder at;
  const PictureFolder set({at / ""}, {.side = 8});
  CHECK(set.size() == 8);
  std::vector<int> values;
  for (int64_t i = 0; i < set.size(); ++i) {
    const Picture p = set.picture(i);
    if (p.empty()) continue;
    CHECK(p.width == 8);
    values.push_back(p.bytes[0]);
    CHECK(set.picture(i).bytes == p.bytes);
  }
  CHECK(values == std::vector<int>{10, 50, 90, 130, 170, 240});
  for (int64_t i = 0; i < set.size(); ++i) set.picture(i);
  const std::vector<std::string> broken = set.broken();
  REQUIRE(broken.size() == 2);
  CHECK(has(broken[0], "a/b/cut.png"));
  CHECK(has(broken[1], "a/notes.txt] expected a picture, this is none"));

  const PictureFolder cropped({at / "a/0.png", at / "a/b"}, {.side = 4, .crop = 9});
  CHECK(cropped.size() == 3);
  const PictureFolder uncached({at / "a"}, {.side = 8, .cache_bytes = 0});
  CHECK(uncached.picture(0).bytes == set.picture(0).bytes);
  CHECK(uncached.picture(0).bytes == set.picture(0).bytes);
}

TEST_CASE("pictures: folders without any are errors") {
  const TempDir folder;
  const auto error = [&](const std::string& path) { return message_of([&] { PictureFolder({path}, {.side = 8}); }); };
  CHECK(has(error(folder / "none"), "there is none"));
  CHECK(has(error(folder / ""), "found no file"));
  write_file(folder / "text", "words");
  write_file(folder / "empty.jpg", "");
  CHECK(has(error(folder / ""), "none of 2 files can be read"));
  CHECK(has(error(folder / "text"), "this is none"));
  CHECK(has(message_of([&] { PictureFolder({folder / "text"}, {.side = 0}); }), "expected 1 to 4096 pixels"));
}

TEST_CASE("pictures: the part held out is fixed by the seed") {
  const PictureSplit split = split_pictures(100, 10, 3), same = split_pictures(100, 10, 3), other = split_pictures(100, 10, 4);
  CHECK(split.held_out.size() == 10);
  CHECK(split.training.size() == 90);
  CHECK(split.held_out == same.held_out);
  CHECK(split.held_out != other.held_out);
  std::set<int64_t> all(split.training.begin(), split.training.end());
  all.insert(split.held_out.begin(), split.held_out.end());
  CHECK(all.size() == 100);
  CHECK(split_pictures(3, 0, 1).training.size() == 3);
  CHECK(has(message_of([] { split_pictures(3, 3, 1); }), "more pictures than the 3 that are held out, got 3"));
}

TEST_CASE("pictures: every picture once, then again; broken ones are replaced; some are mirrored") {
  const Folder at;
  const PictureFolder set({at / "a"}, {.side = 6});
  std::vector<int64_t> all(static_cast<size_t>(set.size()));
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
  PictureLoader loader(set, all, {.batch = 4, .seed = 2});
  std::multiset<int> seen;
  for (int i = 0; i < 2; ++i)
    for (const int value : first_bytes(loader.next())) seen.insert(value);
  CHECK(seen.size() == 8);
  for (const int value : {10, 50, 90, 130, 170, 240}) CHECK(seen.count(value) >= 1);

  const CartoonFaces faces(6, 16, 1);
  PictureLoader mirrored(faces, {0, 1, 2, 3, 4, 5}, {.batch = 6, .seed = 1});
  int as_it_is = 0, turned = 0;
  for (int epoch = 0; epoch < 10; ++epoch) {
    const Tensor x = mirrored.next();
    for (int64_t row = 0; row < 6; ++row) {
      const Picture p = to_picture(x, row);
      for (int64_t i = 0; i < 6; ++i) {
        Picture face = faces.picture(i);
        as_it_is += face.bytes == p.bytes;
        for (int64_t y = 0; y < 16; ++y)
          for (int64_t l = 0; l < 8; ++l)
            for (int64_t c = 0; c < 3; ++c) std::swap(face.bytes[static_cast<size_t>((y * 16 + l) * 3 + c)], face.bytes[static_cast<size_t>((y * 16 + 15 - l) * 3 + c)]);
        turned += face.bytes == p.bytes;
      }
    }
  }
  CHECK(as_it_is + turned == 60);
  CHECK(as_it_is > 15);
  CHECK(turned > 15);
}

TEST_CASE("pictures: a loader goes on where it was saved") {
  const CartoonFaces faces(11, 8, 1);
  std::vector<int64_t> all(11);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
  PictureLoader first(faces, all, {.batch = 4, .seed = 5});
  for (int i = 0; i < 5; ++i) first.next();
  State state;
  first.save(state, "loader.");
  PictureLoader second(faces, all, {.batch = 4, .seed = 5});
  second.load(state, "loader.");
  const CartoonFaces others(12, 8, 1);   // as many, of which one has another name
  PictureLoader renamed(others, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, {.batch = 4, .seed = 5});
  CHECK(has(message_of([&] { renamed.load(state, "loader."); }), "of which some are others"));
  for (int i = 0; i < 7; ++i) {
    const Tensor a = first.next(), b = second.next();
    CHECK(std::memcmp(a.data(), b.data(), static_cast<size_t>(a.size()) * sizeof(float)) == 0);
  }
  all.pop_back();
  PictureLoader fewer(faces, all, {.batch = 4, .seed = 5});
  CHECK(has(message_of([&] { fewer.load(state, "loader."); }), "expected the pictures that the run began with, got 10"));
}

TEST_CASE("pictures: bytes are numbers from -1 to 1 and come back") {
  Tensor x = empty({1, 16, 16, 3});
  for (int i = 0; i < 768; ++i) x.mutable_data()[i] = picture_value(static_cast<uint8_t>(i));
  const Picture p = to_picture(x, 0);
  for (int i = 0; i < 768; ++i) CHECK(p.bytes[static_cast<size_t>(i)] == static_cast<uint8_t>(i));
  CHECK(picture_value(0) == -1.0f);
  CHECK(picture_value(255) == 1.0f);
  const float odd[] = {-5, 5, NAN};
  for (int i = 0; i < 3; ++i) x.mutable_data()[i] = odd[i];
  const Picture clamped = to_picture(x, 0);
  CHECK(clamped.bytes[0] == 0);
  CHECK(clamped.bytes[1] == 255);
  CHECK(clamped.bytes[2] == 0);
}

TEST_CASE("pictures: cartoon faces are the same for a seed, and all different") {
  const CartoonFaces a(40, 32, 1), b(40, 32, 1), c(40, 32, 2);
  std::set<std::vector<uint8_t>> different;
  for (int64_t i = 0; i < 40; ++i) {
    CHECK(a.picture(i).bytes == b.picture(i).bytes);
    CHECK(a.picture(i).bytes != c.picture(i).bytes);
    different.insert(a.picture(i).bytes);
  }
  CHECK(different.size() == 40);
  CHECK(a.name(3) == "face 3");
}

TEST_CASE("pictures: read by several threads at once") {
  const CartoonFaces set(30, 8, 1);
  std::vector<std::thread> readers;
  std::vector<std::vector<uint8_t>> results(4);
  for (size_t t = 0; t < results.size(); ++t)
    readers.emplace_back([&, t] {
      for (int64_t i = 0; i < set.size(); ++i) {
        const Picture p = set.picture(i);
        results[t].insert(results[t].end(), p.bytes.begin(), p.bytes.end());
      }
    });
  for (auto& reader : readers) reader.join();
  for (const auto& result : results) CHECK(result == results[0]);
}
