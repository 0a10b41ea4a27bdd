// TensorBoard's event files: the figures and samples of a run, for `tensorboard --logdir runs`.
// A file is a row of records (TensorFlow's TFRecord): the length as u64, a masked CRC-32C of these 8 bytes, the bytes, a masked CRC-32C of
// them, all little-endian. Each record is a protocol buffer, an `Event` of tensorboard/compat/proto/event.proto; the first names the version.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/append_file.h"
#include "nn/metrics.h"

namespace qd {

uint32_t crc32c(std::string_view bytes);   // Castagnoli's polynomial, as in RFC 3720 (appendix B.4 has values)

// A run has one such file, events.out.tfevents.<seconds since 1970>.qiudao.<process>: where others put the name of the machine, which is
// nobody's business, stands the program's. A TensorBoard that had read further than the place where a killed run goes on shows the rest
// after it is started again.
class EventsFile {
 public:
  EventsFile() = default;                                        // writes nothing
  // The file of the run in `folder`, cut to `length` bytes and continued: to whole records, should fewer be there or be damaged. One is
  // made where there is none. Throws Error.
  EventsFile(const std::string& folder, int64_t length);

  // Both throw Error (disk full), and no part of a record stays.
  void scalars(int64_t step, const std::string& group, const Values& values);   // "train", {{"loss", 2}} has the tag train/loss; "val_" is left out
  void text(int64_t step, const std::string& tag, std::string_view text);       // for the text plugin, shown as it is
  int64_t length() const { return file_.length(); }              // bytes

 private:
  AppendFile file_;
};

}  // namespace qd
