package ai.sori

/** Why Sori did not do what it was asked. The message says what was wrong, where, and what to do. */
public open class SoriException(message: String) : Exception(message)

/** The model package is not what it should be: a file is missing, damaged, or of another version. */
public class ModelException(message: String) : SoriException(message)

/** The audio cannot be heard: its sample rate is outside of 8,000 to 192,000 Hz. */
public class AudioException(message: String) : SoriException(message)

/** No engine can run the model, or a step failed. After a failed step, [Recognizer.reset]. */
public class EngineException(message: String) : SoriException(message)

/** There are too many phrases. */
public class PhrasesException(message: String) : SoriException(message)

/** The grammar is none, or the model cannot spell it. */
public class GrammarException(message: String) : SoriException(message)

/** The microphone cannot be used: the permission is missing, or another app holds it. */
public class MicrophoneException(message: String) : SoriException(message)

/** The model or recognizer was closed before the call. */
public class ClosedException(message: String) : SoriException(message)
