#include <doctest/doctest.h>

#include "core/error.h"
#include "core/tensor.h"

using namespace qd;

TEST_CASE("tensor: copies share, clones do not, views count as the same memory") {
  Tensor x = tensor({1, 2, 3, 4, 5, 6});
  Tensor same = x, other = x.clone();
  same.mutable_data()[0] = 9;
  CHECK(x.data()[0] == 9);
  CHECK(other.data()[0] == 1);
  Tensor row = x.reshape({3, 2}).row_range(1, 2);
  CHECK(row.shape() == Shape{1, 2});
  CHECK(row.data()[0] == 3);
  row.mutable_data()[1] = 7;
  CHECK(x.data()[3] == 7);
  other.copy_from(x);
  CHECK(other.data()[3] == 7);
  CHECK(x.row_range(6, 6).size() == 0);
}

TEST_CASE("tensor: types and wrong uses") {
  const std::vector<int32_t> ids{1, 2};
  const Tensor i = tensor(ids, {2});
  CHECK(i.dtype() == DType::i32);
  CHECK(i.values<int32_t>()[1] == 2);
  CHECK_THROWS_WITH(i.data(), doctest::Contains("expected type F32, got I32 (2)"));
  CHECK_THROWS_WITH(Tensor().data(), doctest::Contains("undefined"));
  CHECK_THROWS_AS(tensor({1, 2}).item(), Error);
  CHECK(full({1, 1}, 3).item() == 3);
  CHECK_THROWS_AS(tensor({1, 2}).reshape({3}), Error);
  CHECK_THROWS_AS(tensor({1, 2}).row_range(1, 3), Error);
  CHECK_THROWS_AS(tensor({1, 2}).row_range(-1, 1), Error);
  CHECK_THROWS_AS(tensor({1, 2}).clone().copy_from(tensor({1})), Error);
  CHECK_THROWS_AS(Tensor(Storage::allocate(16), {3}, DType::f32, 2), Error);
  const std::vector<float> three{1, 2, 3};
  CHECK_THROWS_AS(tensor(std::span<const float>(three), {4}), Error);
  CHECK(zeros({3}, DType::u8).data<uint8_t>()[2] == 0);
  CHECK(zeros({0}).size() == 0);
}

TEST_CASE("tensor: storage is freed with its last owner, windows keep their arena") {
  const int64_t before = live_storages();
  {
    Tensor view;
    {
      const Tensor arena = zeros({100});
      view = Tensor(Storage::window(arena.storage(), 40, 40), {10}, DType::f32);
    }
    view.mutable_data()[9] = 1;
    CHECK(live_storages() == before + 2);
  }
  CHECK(live_storages() == before);
}

TEST_CASE("tensor: every write is counted, through every view") {
  Tensor a = zeros({4});
  Tensor view = a.reshape({2, 2}).row_range(1, 2);
  const uint32_t before = a.storage()->writes;
  a.data();
  CHECK(a.storage()->writes == before);
  view.mutable_data();
  CHECK(a.storage()->writes == before + 1);
  view.copy_from(full({1, 2}, 5));
  CHECK(a.storage()->writes == before + 2);
  CHECK(a.data()[3] == 5);
}

TEST_CASE("tensor: rows, columns and windows") {
  const Tensor x = zeros({2, 3, 4});
  CHECK(x.rows() == 6);
  CHECK(x.cols() == 4);
  CHECK(x.dim(-1) == 4);
  CHECK(full({}, 1).rows() == 1);
  CHECK(zeros({5, 0}).rows() == 5);
  CHECK(zeros({0, 5}).rows() == 0);
  CHECK(zeros({0, 4}).row_range(0, 0).shape() == Shape{0, 4});
  CHECK_THROWS_WITH_AS(Storage::window(x.storage(), 92, 8), "[storage] expected a window inside the arena", Error);
  CHECK_THROWS_AS(Storage::window(x.storage(), -4, 8), Error);
  CHECK_THROWS_WITH_AS(full({}, 1).row_range(0, 1), "[row_range] expected 0 <= begin <= end <= 0, got 0 and 1", Error);
}
