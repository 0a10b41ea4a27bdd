#include "core/machine.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <ctime>
#include <fstream>

#include "core/error.h"

namespace qd {
namespace {

utsname system_parts() {
  utsname parts = {};
  uname(&parts);
  return parts;
}

}  // namespace

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return system_parts().machine;
}

int processors() { return static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)); }

double memory_bytes() {
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  return pages > 0 && page > 0 ? static_cast<double>(pages) * static_cast<double>(page) : 0;
}

std::string system_name() {
  const utsname parts = system_parts();
  return str(parts.sysname, " ", parts.release, " ", parts.machine);
}

std::string compiler_name() {
#if defined(__clang__)
  return str("clang ", __clang_version__);
#elif defined(__GNUC__)
  return str("g++ ", __VERSION__);
#else
  return "unknown";
#endif
}

std::string utc_time() {
  const std::time_t now = std::time(nullptr);
  std::tm parts = {};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &parts);
  return text;
}

}  // namespace qd
