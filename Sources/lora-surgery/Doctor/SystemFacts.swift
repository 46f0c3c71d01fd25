import Checkpoints
import LinearAlgebra
import LoRASurgery

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// What a report of a bug needs to know of the machine; no paths, no names of users or hosts.
struct SystemFacts {
  /// One line of the facts.
  struct Fact: Encodable {
    var name: String
    var value: String
  }

  let facts: [Fact]

  init() {
    facts = [
      Fact(name: "lora-surgery", value: "\(Version.current), commit \(VersionText.commit)"),
      Fact(name: "build", value: Self.build),
      Fact(name: "arithmetic", value: "\(BLASLibrary.version), kernel \(BLASLibrary.kernel)"),
      Fact(name: "deflate", value: DeflateLibrary.version),
      Fact(name: "system", value: Self.system),
      Fact(name: "C library", value: Self.libc),
      Fact(name: "processor", value: Self.processor),
      Fact(name: "features", value: Self.features),
      Fact(name: "memory", value: Self.memory),
      Fact(name: "limits", value: Self.limits),
      Fact(name: "this folder", value: Self.fileSystem),
      Fact(name: "locale", value: Self.environment(["LC_ALL", "LC_CTYPE", "LANG"])),
      Fact(
        name: "terminal",
        value: (Console.outputIsTerminal ? "\(Console.width) columns" : "none") + ", "
          + Self.environment(["TERM", "NO_COLOR", "COLUMNS"])),
      Fact(
        name: "environment",
        value: Self.environment([
          "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "OMP_NUM_THREADS", "MALLOC_ARENA_MAX",
          "LD_PRELOAD",
        ])),
    ]
  }

  private static var build: String {
    #if DEBUG
      let kind = "debug"
    #else
      let kind = "release"
    #endif
    #if arch(x86_64)
      return "\(kind), x86-64"
    #elseif arch(arm64)
      return "\(kind), arm64"
    #else
      return kind
    #endif
  }

  private static var system: String {
    var name = utsname()
    guard unsafe uname(&name) == 0 else { return "unknown" }
    let kernel = text(name.sysname) + " " + text(name.release)
    let distribution = lines(of: "/etc/os-release").first { $0.hasPrefix("PRETTY_NAME=") }
      .map { $0.dropFirst("PRETTY_NAME=".count).filter { $0 != "\"" } }
    return [distribution, kernel].compactMap(\.self).joined(separator: ", ")
  }

  private static func text(_ characters: some Any) -> String {
    unsafe withUnsafeBytes(of: characters) { bytes in
      unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
  }

  private static var libc: String {
    #if canImport(Glibc)
      var bytes = [UInt8](repeating: 0, count: 64)
      let count = unsafe bytes.withUnsafeMutableBytes { bytes in
        unsafe bytes.withMemoryRebound(to: CChar.self) {
          unsafe confstr(Int32(_CS_GNU_LIBC_VERSION), $0.baseAddress, $0.count)
        }
      }
      return String(decoding: bytes.prefix(max(0, min(count, bytes.count) - 1)), as: UTF8.self)
    #elseif canImport(Musl)
      return "musl"
    #else
      return "the system's"
    #endif
  }

  private static var processor: String {
    let model = processorLine("model name") ?? processorLine("Model") ?? "unknown model"
    let quota = lines(of: "/sys/fs/cgroup/cpu.max").first.map { ", quota \($0)" } ?? ""
    return "\(model), \(Workers.processorCount) processors\(quota)"
  }

  /// Those that our kernels and OpenBLAS's ask for.
  private static var features: String {
    let wanted = ["avx", "avx2", "fma", "f16c", "avx512f", "avx512_bf16", "amx_bf16", "asimd"]
    let all = Set(
      (processorLine("flags") ?? processorLine("Features") ?? "").split(separator: " ").map(
        String.init))
    let found = wanted.filter(all.contains)
    return found.isEmpty ? "unknown" : found.joined(separator: " ")
  }

  private static func processorLine(_ key: String) -> String? {
    lines(of: "/proc/cpuinfo").first { $0.hasPrefix(key) }
      .flatMap { $0.split(separator: ":", maxSplits: 1).dropFirst().first }
      .map { $0.drop { $0 == " " } }.map(String.init)
  }

  private static var memory: String {
    let sizes = ["MemTotal", "MemAvailable"].map { key in
      lines(of: "/proc/meminfo").first { $0.hasPrefix(key + ":") }
        .flatMap { $0.split(separator: " ").dropFirst().first }.flatMap { Int($0) }
        .map { Quantities.bytes($0 * 1024) } ?? "unknown"
    }
    let limit =
      lines(of: "/sys/fs/cgroup/memory.max").first
      .map { Int($0).map(Quantities.bytes) ?? String($0) }.map { ", group's limit \($0)" } ?? ""
    return "\(sizes[0]), \(sizes[1]) available\(limit)"
  }

  private static var limits: String {
    #if canImport(Glibc)
      let kinds = [
        ("open files", RLIMIT_NOFILE), ("address space", RLIMIT_AS), ("file size", RLIMIT_FSIZE),
      ].map { ($0.0, __rlimit_resource_t($0.1.rawValue)) }
    #else
      let kinds = [
        ("open files", RLIMIT_NOFILE), ("address space", RLIMIT_AS), ("file size", RLIMIT_FSIZE),
      ]
    #endif
    return kinds.map { name, resource in
      var limit = rlimit()
      guard unsafe getrlimit(resource, &limit) == 0 else { return "\(name) unknown" }
      return "\(name) " + (limit.rlim_cur == rlim_t.max ? "unlimited" : "\(limit.rlim_cur)")
    }.joined(separator: ", ")
  }

  /// The kind of file system of the working folder and what is free there, not its path.
  private static var fileSystem: String {
    var volume = statvfs()
    guard unsafe statvfs(".", &volume) == 0 else { return "unknown" }
    let free = Quantities.bytes(Int(clamping: UInt64(volume.f_bavail) &* UInt64(volume.f_frsize)))
    return [kind, "\(free) free"].compactMap(\.self).joined(separator: ", ")
  }

  /// The kind of the file system that holds the working folder, from the kernel's list of mounts.
  private static var kind: String? {
    var folder = stat()
    guard unsafe stat(".", &folder) == 0 else { return nil }
    let device = UInt64(folder.st_dev)
    // As linux/kdev_t.h packs them for programs.
    let major: UInt64 = (device >> 8) & 0xFFF
    let minor: UInt64 = (device & 0xFF) | ((device >> 12) & 0xFFF00)
    let name = "\(major):\(minor)"
    for line in lines(of: "/proc/self/mountinfo") {
      let words = line.split(separator: " ")
      guard words.count > 3, words[2] == name else { continue }
      return words.drop { $0 != "-" }.dropFirst().first.map(String.init)
    }
    return nil
  }

  private static func environment(_ names: [String]) -> String {
    let set = names.compactMap { name in
      Environment.value(name).map { value in
        // A preloaded library may lie in a private folder: that there is one is what matters.
        name == "LD_PRELOAD" ? "\(name) set" : "\(name)=\(value)"
      }
    }
    return set.isEmpty ? "nothing set" : set.joined(separator: " ")
  }

  /// The lines of a small file of the system's; none where it cannot be read.
  private static func lines(of path: String) -> [Substring] {
    guard let file = unsafe fopen(path, "r") else { return [] }
    defer { unsafe fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 1 << 16)
    let count = unsafe fread(&bytes, 1, bytes.count, file)
    return String(decoding: bytes.prefix(count), as: UTF8.self).split(separator: "\n")
  }
}
