import SystemPackage
import Tensors

/// A folder that holds a model, listed once.
struct ModelFolder {
  let path: String
  /// Regular files (links followed), sorted.
  let names: [String]
  /// Folders, sorted.
  let folders: [String]
  /// What reading its files may cost.
  let limits: ReadLimits

  init(_ path: String, limits: ReadLimits = ReadLimits()) throws(SurgeryError) {
    self.path = path
    self.limits = limits
    var names: [String] = []
    var folders: [String] = []
    do {
      for name in try FileSystem.contents(of: FilePath(path)) where !name.hasPrefix(".") {
        guard let status = try? FileSystem.status(of: FilePath(path).appending(name)) else {
          names.append(name)
          continue
        }
        if status.isFolder { folders.append(name) } else { names.append(name) }
      }
    } catch {
      throw SurgeryError.reading(path, "opendir", error)
    }
    self.names = names
    self.folders = folders
  }

  func path(of name: String) -> String { FilePath(path).appending(name).string }

  /// The index of a sharded model: safetensors before PyTorch.
  func indexName() throws(SurgeryError) -> String? {
    let indices = names.filter { $0.hasSuffix(".safetensors.index.json") }
    if indices.count > 1 {
      throw SurgeryError(
        .data, "folder.ambiguous", "the folder has several index files", file: path,
        found: indices.joined(separator: ", "), hint: "name the file to use")
    }
    if let index = indices.first { return index }
    if names.contains(where: { $0.hasSuffix(".safetensors") }) { return nil }
    return names.first { $0.hasSuffix(".bin.index.json") }
  }

  /// The endings of files of tensors, in the order in which they are preferred; litgpt's adapters lie beside its models.
  private static let endings = [
    ".safetensors", ".npz", ".bin", ".pt", ".pth", ".gguf", ".lra", ".pth.lora",
  ]

  /// The one file of tensors in a folder without an index.
  func weightsName() throws(SurgeryError) -> String {
    for suffix in Self.endings {
      let found = names.filter { $0.hasSuffix(suffix) }
      for preferred in ["model", "diffusion_pytorch_model", "pytorch_model", "adapter_model"]
      where found.count > 1 && found.contains(preferred + suffix) {
        return preferred + suffix
      }
      if found.count > 1 {
        throw SurgeryError(
          .data, "folder.ambiguous", "the folder has several files of tensors and no index",
          file: path, found: found.listed(limit: 4), hint: "name the file to use")
      }
      if let name = found.first { return name }
    }
    throw SurgeryError(
      .missingInput, "folder.no-weights", "the folder holds no file of tensors", file: path,
      expected: "*.safetensors, an index with its shards, or another known format")
  }

  /// The one folder with weights inside this one or its `snapshots`, as the cache of the Hugging Face hub has them.
  func onlyModelInside() throws(SurgeryError) -> ModelFolder? {
    var places = folders.map { path(of: $0) }
    if folders.contains("snapshots") {
      let snapshots = try ModelFolder(path(of: "snapshots"), limits: limits)
      places += snapshots.folders.map { snapshots.path(of: $0) }
    }
    var found: [ModelFolder] = []
    for place in places {
      let inner = try ModelFolder(place, limits: limits)
      if inner.hasWeights { found.append(inner) }
    }
    if found.count > 1 {
      throw SurgeryError(
        .data, "folder.ambiguous", "the folder has no weights, but several of its folders have",
        file: path, found: found.map(\.path).listed(limit: 4),
        hint: "name the folder to use")
    }
    return found.first
  }

  /// Whether the folder itself holds a file of several tensors.
  var hasWeights: Bool {
    names.contains { name in
      let format = FileFormat(extensionOf: name)
      return format != nil && format != .npy || name.hasSuffix(".index.json")
        || name.hasSuffix(".pth.lora")
    }
  }

  /// The npy files in the folder and the folders in it, sorted by their bytes; `nil` where there are none.
  func arrays() throws(SurgeryError) -> [String]? {
    var found: [String] = []
    var places = [(prefix: "", folder: self, depth: 0)]
    while let (prefix, folder, depth) = places.popLast() {
      found += folder.names.filter { FileFormat(extensionOf: $0) == .npy }.map { prefix + $0 }
      guard depth < Self.maximumArrayDepth else { continue }
      for name in folder.folders {
        // A link may lead back up.
        let path = FilePath(folder.path(of: name))
        let status = try? FileSystem.status(of: path, followingLinks: false)
        if status?.isLink ?? true { continue }
        places.append(
          ("\(prefix)\(name)/", try ModelFolder(path.string, limits: limits), depth + 1))
      }
    }
    return found.isEmpty ? nil : found.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
  }

  /// More than tensor names have components.
  private static let maximumArrayDepth = 32

  /// The files of the folder itself that come along with its tensors: all but weights.
  func companions(besides taken: Set<String>) -> [Checkpoint.Companion] {
    names.filter { !taken.contains($0) && comesAlong($0) }
      .map { Checkpoint.Companion(relativePath: $0, path: path(of: $0)) }
  }

  /// The files that come along with a model, those in folders of settings too, as `1_Pooling/config.json`; and what does not.
  ///
  /// Other weights would be those of the old model, and a folder may hold anything.
  ///
  /// - Parameter taken: The model's own files of tensors and its index.
  /// - Returns: The files, and the names of what stays behind; a folder's ends in a slash.
  func surroundings(
    of taken: Set<String>
  ) -> (companions: [Checkpoint.Companion], leftBehind: [String]) {
    var found = companions(besides: taken)
    var left = names.filter { !taken.contains($0) && !comesAlong($0) }
    for name in folders {
      // A folder that may not be listed, as a disk's lost+found, is none of the model's.
      if let inner = try? ModelFolder(path(of: name), limits: limits), inner.holdsOnlySettings {
        found += inner.companions(besides: []).map { $0.inside(name) }
      } else {
        left.append(name + "/")
      }
    }
    return (found, left)
  }

  private func comesAlong(_ name: String) -> Bool {
    name.hasSuffix(".pth.lora")
      || FileFormat(extensionOf: name) == nil && !name.hasSuffix(".index.json")
        && !Self.foreignWeights.contains(FilePath(name).extension ?? "")
  }

  /// Endings of weights in the forms of other frameworks.
  private static let foreignWeights: Set<String> = ["h5", "msgpack", "onnx", "ot", "tflite", "pb"]

  private var holdsOnlySettings: Bool {
    !names.isEmpty && folders.isEmpty
      && names.allSatisfy { Self.settings.contains(FilePath($0).extension ?? "") }
  }

  /// Endings of the files that tell how a model is used.
  private static let settings: Set<String> = ["json", "jinja", "txt", "model", "md", "py"]

  /// A JSON file of the folder, parsed strictly; `nil` where it is absent.
  func json(_ name: String) throws(SurgeryError) -> JSONValue? {
    guard names.contains(name) else { return nil }
    return try JSONValue(readingFile: path(of: name))
  }
}
