#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The variables that the process was started with.
enum Environment {
  /// The value of a variable; `nil` where it is not set or empty, which conventions treat alike.
  static func value(_ name: String) -> String? {
    guard let value = unsafe getenv(name).map({ unsafe String(cString: $0) }), !value.isEmpty
    else { return nil }
    return value
  }
}
