// Any bytes as a picture: an error that names the file, or a picture whose sizes fit its bytes.
#include <cstdlib>
#include <string_view>

#include "core/error.h"
#include "data/picture.h"

using namespace qd;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const Picture p = decode_picture({reinterpret_cast<const char*>(data), size}, "name");
    if (p.width < 1 || p.height < 1 || p.width * p.height > most_pixels || std::ssize(p.bytes) != p.width * p.height * 3) std::abort();
    if (p.width * p.height <= 4096 && resize(center_crop(p, 0, "name"), 8, 8).bytes.size() != 192) std::abort();
  } catch (const Error& error) {
    if (std::string_view(error.what()).find("[name]") != 0) std::abort();
  }
  return 0;
}
