import LoRASurgery
import Tensors

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// What the system allows the process.
enum ProcessLimits {
  /// Raises the number of files that may be open to what the system allows: a folder of npy files is one for each tensor.
  static func raiseOpenFiles() {
    #if canImport(Glibc)
      let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    #else
      let resource = RLIMIT_NOFILE
    #endif
    var limit = rlimit()
    guard unsafe getrlimit(resource, &limit) == 0 else { return }
    #if canImport(Darwin)
      limit.rlim_cur = min(limit.rlim_max, rlim_t(OPEN_MAX))
    #else
      limit.rlim_cur = limit.rlim_max
    #endif
    _ = unsafe setrlimit(resource, &limit)
  }

  /// Fails where the address space is limited to less than OpenBLAS takes: what it is denied it asks for again, for ever.
  static func requireAddressSpace() throws(SurgeryError) {
    #if canImport(Glibc)
      let resource = __rlimit_resource_t(RLIMIT_AS.rawValue)
    #else
      let resource = RLIMIT_AS
    #endif
    var limit = rlimit()
    guard unsafe getrlimit(resource, &limit) == 0, limit.rlim_cur < Int64.max else { return }
    // Buffers of 128 MiB for each core and the first thread; for each core stacks and an arena of 64 MiB.
    let needed = (Workers.processorCount * 224 + 192) << 20
    let room = unsafe mmap(nil, needed, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let room = unsafe room, unsafe room != MAP_FAILED else {
      throw SurgeryError(
        .unsupported, "memory.address-space", "the limit of the address space is too low",
        expected: "room for \(needed) bytes", found: "a limit of \(limit.rlim_cur) bytes",
        hint: "'ulimit -v unlimited' lifts it; --memory limits what buffers take")
    }
    unsafe _ = munmap(room, needed)
  }
}
