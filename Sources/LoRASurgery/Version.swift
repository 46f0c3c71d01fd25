/// The version of the program, written into reports and metadata.
public enum Version {
  /// The version in the form of semver.org.
  public static let current = "0.1.0"
}
