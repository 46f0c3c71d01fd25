import Checkpoints
import Tensors
import YAML

/// A path of a job.
struct BatchPath: Sendable {
  /// As the recipe has it.
  var text: String
  /// As seen from the working folder.
  var path: String
  /// The one name of the place.
  var place: String
}

/// A job of a batch: one run of one command.
struct BatchJob: Sendable {
  var name: String
  var call: BatchCall
  /// The request, where the plan needed one already.
  var request: (any BatchOperation)?
  var inputs: [BatchPath]
  var outputs: [BatchPath]
  var mark: YAMLNode.Mark
  /// Jobs that come first.
  var needs: Set<Int> = []

  var command: String { call.words.first ?? "" }

  /// The request with its paths as the recipe has them.
  func asked() throws(SurgeryError) -> any BatchOperation {
    if let request { return request }
    return try call.request()
  }
}

/// The jobs of a recipe with what depends on what; made without writing anything.
struct BatchPlan: Sendable {
  private(set) var jobs: [BatchJob] = []
  /// Positions of jobs, each after all that it needs.
  private(set) var order: [Int] = []
  private let folder: String
  private var places = Places()
  /// Which jobs each step became.
  private var steps: [Range<Int>] = []
  private var names: [String: Int] = [:]
  private var writers: [String: Int] = [:]

  /// Fills in the recipe's steps, finds what depends on what, and refuses what cannot come out right.
  init(
    _ recipe: Recipe, state: BatchState,
    decoding decode: (RecipeCall) throws(SurgeryError) -> BatchCall
  ) throws(SurgeryError) {
    folder = recipe.folder
    do throws(SurgeryError) {
      for step in recipe.steps { try add(step, of: recipe, state, decode) }
      for (index, step) in recipe.steps.enumerated() { try link(step, steps[index]) }
      try linkByPaths()
      try sort()
    } catch {
      throw error.inFile(recipe.path)
    }
  }

  private mutating func add(
    _ step: Recipe.Step, of recipe: Recipe, _ state: BatchState,
    _ decode: (RecipeCall) throws(SurgeryError) -> BatchCall
  ) throws(SurgeryError) {
    let index = steps.count
    let start = jobs.count
    if let name = step.name, let other = names.updateValue(index, forKey: name) {
      throw .recipe(
        "name", "a second job of the name \"\(name)\"", at: step.mark,
        expected: "another name than in line \(recipe.steps[other].mark.line)")
    }
    let planned = step.items == nil ? [] : jobs.flatMap(\.outputs).map(\.text)
    for item in try step.repetitions(in: folder, planned: planned) {
      let call = try decode(
        RecipeCall(
          command: step.command,
          fields: try step.fields.map { field throws(SurgeryError) in
            try RecipeItem.fill(field, with: item)
          }, defaults: recipe.defaults, mark: step.mark))
      let paths = try paths(of: call, state, at: step.mark)
      let base = step.name ?? "\(step.command) \(index + 1)"
      try add(
        BatchJob(
          name: item.map { "\(base) (\($0.path))" } ?? base, call: call, request: paths.request,
          inputs: paths.inputs, outputs: paths.outputs, mark: step.mark))
    }
    steps.append(start..<jobs.count)
  }

  /// The paths of a call: as recorded where it was once finished, else as the request says.
  private mutating func paths(
    of call: BatchCall, _ state: BatchState, at mark: YAMLNode.Mark
  ) throws(SurgeryError) -> (
    request: (any BatchOperation)?, inputs: [BatchPath], outputs: [BatchPath]
  ) {
    var (inputs, outputs): ([String], [String]) = ([], [])
    var made: (any BatchOperation)?
    if let record = state.record(of: call.words) {
      (inputs, outputs) = (record.inputs.keys.sorted(), record.outputs.keys.sorted())
    } else {
      var request = try call.request()
      request.visitPaths { role, path in
        switch role {
        case .input: inputs.append(path)
        case .output: outputs.append(path)
        }
      }
      made = request
    }
    return (made, inputs.map { found($0) }, outputs.map { found($0) })
  }

  private mutating func found(_ text: String) -> BatchPath {
    let path = Places.path(text, from: folder)
    return BatchPath(text: text, path: path, place: places.name(of: path))
  }

  private mutating func add(_ job: BatchJob) throws(SurgeryError) {
    for output in job.outputs {
      if let other = writers.updateValue(jobs.count, forKey: output.place) {
        throw .recipe(
          "same-output", "two jobs have one output", at: job.mark, expected: "an output each",
          found:
            "\(output.text), which \(Self.quoted(other < jobs.count ? jobs[other].name : job.name)) writes",
          hint: "{name} and {stem} in the output tell items apart")
      }
    }
    jobs.append(job)
  }

  private static func quoted(_ name: String) -> String { "\"\(DisplayText.escaped(name))\"" }

  private mutating func link(_ step: Recipe.Step, _ range: Range<Int>) throws(SurgeryError) {
    for need in step.needs {
      guard let other = names[need.name] else {
        throw .unknownWord(
          need.name, "no job is called", known: names.keys.sorted(), at: need.mark)
      }
      for job in range { jobs[job].needs.formUnion(steps[other]) }
    }
  }

  /// Whoever reads what another writes comes after it.
  private mutating func linkByPaths() throws(SurgeryError) {
    var readers: [String: Int] = [:]
    for (index, job) in jobs.enumerated() {
      for input in job.inputs {
        readers[input.place] = index
        for place in [input.place] + Places.folders(above: input.place) {
          guard let writer = writers[place] else { continue }
          guard writer != index else {
            throw .recipe(
              "output-is-input", "the job \(Self.quoted(job.name)) writes what it reads",
              at: job.mark, found: input.text, hint: "choose another output")
          }
          jobs[index].needs.insert(writer)
        }
      }
    }
    for job in jobs {
      for output in job.outputs {
        for place in Places.folders(above: output.place) {
          if let reader = readers[place] {
            throw .recipe(
              "output-in-input", "an output lies inside an input", at: job.mark,
              found: "\(output.text), in what \(Self.quoted(jobs[reader].name)) reads",
              hint: "choose an output elsewhere")
          }
          if let writer = writers[place] {
            throw .recipe(
              "output-in-output", "an output lies inside another", at: job.mark,
              found: "\(output.text), in what \(Self.quoted(jobs[writer].name)) writes",
              hint: "choose an output elsewhere")
          }
        }
      }
    }
  }

  /// Orders the jobs so that each comes after its needs, and those that read the same large input stand together.
  private mutating func sort() throws(SurgeryError) {
    let ranks = sharedInputRanks()
    var missing = jobs.map(\.needs.count)
    var dependents = jobs.map { _ in [Int]() }
    for (index, job) in jobs.enumerated() {
      for need in job.needs { dependents[need].append(index) }
    }
    var ready = ReadyJobs(ranks: ranks)
    for index in jobs.indices where missing[index] == 0 { ready.insert(index) }
    while let next = ready.removeFirst() {
      order.append(next)
      for dependent in dependents[next] {
        missing[dependent] -= 1
        if missing[dependent] == 0 { ready.insert(dependent) }
      }
    }
    if order.count < jobs.count { throw cycle(among: missing) }
  }

  /// A rank for each job: those whose largest input is the same follow one another, by their first place in the recipe.
  private func sharedInputRanks() -> [Int] {
    var sizes: [String: Int] = [:]
    var first: [String: Int] = [:]
    var keys: [(group: Int, index: Int)] = []
    for (index, job) in jobs.enumerated() {
      var largest: (place: String, bytes: Int)?
      for input in job.inputs {
        let bytes: Int
        if let known = sizes[input.place] {
          bytes = known
        } else {
          bytes = (try? Fingerprint(of: input.path))?.bytes ?? 0
          sizes[input.place] = bytes
        }
        if bytes > largest?.bytes ?? -1 { largest = (input.place, bytes) }
      }
      guard let place = largest?.place else {
        keys.append((index, index))
        continue
      }
      let group = first[place] ?? index
      first[place] = group
      keys.append((group, index))
    }
    var ranks = jobs.map { _ in 0 }
    for (rank, key) in keys.sorted(by: { $0 < $1 }).enumerated() { ranks[key.index] = rank }
    return ranks
  }

  private func cycle(among missing: [Int]) -> SurgeryError {
    var path: [Int] = []
    var job = missing.firstIndex { $0 > 0 } ?? 0
    while !path.contains(job) {
      path.append(job)
      job = jobs[job].needs.filter { missing[$0] > 0 }.min() ?? job
    }
    let circle = path[(path.firstIndex(of: job) ?? 0)...] + [job]
    return .recipe(
      "cycle", "jobs need one another in a circle", at: jobs[job].mark,
      found: circle.map { Self.quoted(jobs[$0].name) }.joined(separator: " needs "))
  }
}

/// Jobs that may run, the one of the lowest rank first.
struct ReadyJobs {
  private let ranks: [Int]
  /// Descending, so that the first is taken from the end.
  private var jobs: [Int] = []

  init(ranks: [Int]) { self.ranks = ranks }

  var count: Int { jobs.count }
  var first: Int? { jobs.last }

  mutating func insert(_ job: Int) {
    var (low, high) = (0, jobs.count)
    while low < high {
      let middle = (low + high) / 2
      if ranks[jobs[middle]] > ranks[job] { low = middle + 1 } else { high = middle }
    }
    jobs.insert(job, at: low)
  }

  mutating func removeFirst() -> Int? { jobs.popLast() }
}
