// What a run's figures depend on beside the program: the machine and the time.
#pragma once

#include <string>

namespace qd {

std::string processor_name();    // "AMD EPYC 9B14"; the kind of processor where the system knows no name
int processors();                // of the machine, whether this process may use them or not
double memory_bytes();           // of the machine; 0: unknown
std::string system_name();       // "Linux 6.1.0 x86_64". No name of a machine or a user
std::string compiler_name();     // that built this program
std::string utc_time();          // now: "2026-11-25 04:12:54 UTC"

}  // namespace qd
