// What the stand-in says that it is: the same from the driver and from NVML.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>

namespace standin {

constexpr char kName[] = "Stand-in GPU (not real)";
constexpr int kCudaVersion = 13000;                   // of the driver API, as cuDriverGetVersion counts
constexpr char kDriverVersion[] = "580.0.0-standin";  // NVML's answer to the same question
constexpr int kMajor = 9, kMinor = 0;                 // compute capability
constexpr int kPciDomain = 0, kPciBus = 0x57, kPciDevice = 0;
constexpr int kClockKhz = 1'980'000, kMemoryClockKhz = 2'619'000, kBusBits = 5120;
constexpr uint32_t kThreadsPerSm = 2048, kBlocksPerSm = 32;

struct Uuid {
  uint8_t byte[16];
};

// A device is told from others by the file that its state lives in; "" for one that a process has to itself.
// The first four bytes are fixed: they spell "standin" as well as hexadecimal digits can.
inline Uuid uuid_of(const char* state) {
  uint64_t hash[2] = {0xcbf29ce484222325, 0x9ae16a3b2f90404f};
  for (const char* c = state; *c != 0; ++c)
    for (uint64_t& half : hash) half = (half ^ static_cast<uint8_t>(*c)) * 0x100000001b3;
  Uuid uuid;
  memcpy(uuid.byte, hash, sizeof(uuid.byte));
  const uint8_t mark[] = {0x57, 0xa4, 0xd1, 0x40};
  memcpy(uuid.byte, mark, sizeof(mark));
  return uuid;
}

// "GPU-" and 36 characters, as NVML, nvidia-smi and CUDA_VISIBLE_DEVICES write it.
inline void write_uuid(const Uuid& uuid, char (&text)[41]) {
  int at = snprintf(text, sizeof(text), "GPU-");
  for (int i = 0; i < 16; ++i) {
    const char* dash = i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "";
    at += snprintf(text + at, sizeof(text) - static_cast<size_t>(at), "%s%02x", dash, uuid.byte[i]);
  }
}

// "0000:57:00.0", as cuDeviceGetPCIBusId writes it.
inline void write_pci(char* text, size_t size) {
  snprintf(text, size, "%04x:%02x:%02x.0", kPciDomain, kPciBus, kPciDevice);
}

}  // namespace standin
