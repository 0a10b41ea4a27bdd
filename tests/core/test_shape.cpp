#include "core/shape.h"

#include <doctest/doctest.h>

#include <vector>

#include "core/error.h"

using namespace qd;

TEST_CASE("shape: sizes") {
  CHECK(Shape{}.size() == 1);
  CHECK(Shape{}.rank() == 0);
  CHECK(Shape{}.str() == "()");
  CHECK(Shape{2, 3}.size() == 6);
  CHECK(Shape{2, 3}.str() == "(2, 3)");
  CHECK(Shape{2, 0, 3}.size() == 0);
  CHECK(Shape{1, 2, 3, 4, 5, 6}.size() == 720);
  CHECK(Shape{2, 3}[-1] == 3);
  CHECK(Shape{2, 3}[-2] == 2);
  CHECK(Shape{2, 3} == Shape{2, 3});
  CHECK(Shape{2, 3} != Shape{3, 2});
  CHECK(Shape{2} != Shape{2, 1});
}

TEST_CASE("shape: rows and columns") {
  CHECK(Shape{}.rows() == 1);
  CHECK(Shape{}.cols() == 1);
  CHECK(Shape{5}.rows() == 1);
  CHECK(Shape{2, 3, 4}.rows() == 6);
  CHECK(Shape{2, 3, 0}.rows() == 6);
  CHECK(Shape{0, 3}.rows() == 0);
  CHECK(Shape{2, 3}.with_last(7) == Shape{2, 7});
  CHECK(Shape{2, 3}.without_last() == Shape{2});
  CHECK(Shape{2}.without_last() == Shape{});
}

TEST_CASE("shape: what is no shape throws") {
  CHECK_THROWS_WITH_AS((Shape{1, 1, 1, 1, 1, 1, 1}), "[shape] expected at most 6 dimensions, got 7", Error);
  CHECK_THROWS_WITH_AS((Shape{2, -1}), "[shape] expected sizes of at least 0, got (2, -1)", Error);
  CHECK_THROWS_WITH_AS((Shape{int64_t{1} << 32, int64_t{1} << 31}),
                       doctest::Contains("[shape] expected at most 2^60 elements"), Error);
  CHECK_THROWS_AS(Shape{}.with_last(3), Error);
  CHECK_THROWS_AS(Shape{2}.with_last(-3), Error);
}
