package ai.sori

import android.content.res.AssetManager
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.withContext
import java.io.File
import java.io.InputStream
import java.util.concurrent.atomic.AtomicLong

/**
 * A loaded model. All its recognizers share one copy of the weights; they may outlive it.
 *
 * Any thread may use it. Close it when no more recognizers are opened: the weights go with the last of them.
 */
public class SoriModel private constructor(handle: Long) : AutoCloseable {
    private val handle = AtomicLong(handle)

    /** What runs the model, for people: engine, version, precision, threads. */
    public val engine: String
        get() = Native.engine(handle.get())

    /**
     * Opens a recognizer: one source of audio, from its first sample.
     *
     * @throws ClosedException when the model is closed.
     */
    @Throws(SoriException::class)
    public fun recognizer(): Recognizer = Recognizer(Native.openStream(handle.get()))

    /** Closes the model; closing it again does nothing. */
    override fun close() {
        Native.closeModel(handle.getAndSet(0))
    }

    public companion object {
        /**
         * Loads the model package in a folder of the app's assets. The assets may be compressed: they are read into
         * memory, never into a temporary file, and only the graph that [options] need.
         *
         * Runs on [Dispatchers.IO].
         *
         * @throws ModelException when the package is not what it should be.
         * @throws EngineException when no engine can run it.
         */
        public suspend fun fromAssets(
            assets: AssetManager,
            folder: String = "model",
            options: ModelOptions = ModelOptions(),
        ): SoriModel = fromStreams(options) { assets.open("$folder/$it", AssetManager.ACCESS_STREAMING) }

        /**
         * Loads the model package in a directory, as after a download.
         *
         * Runs on [Dispatchers.IO].
         *
         * @throws ModelException when the package is not what it should be.
         * @throws EngineException when no engine can run it.
         */
        public suspend fun fromFile(directory: File, options: ModelOptions = ModelOptions()): SoriModel =
            load(options) { Native.packageFromDirectory(directory.path) }

        /**
         * Loads a model package from wherever its files are: [open] gives the file of a name, or throws
         * [java.io.FileNotFoundException] where there is none. Anything else that it throws is thrown on.
         *
         * Runs on [Dispatchers.IO].
         *
         * @throws ModelException when the package is not what it should be.
         * @throws EngineException when no engine can run it.
         */
        public suspend fun fromStreams(
            options: ModelOptions = ModelOptions(),
            open: (name: String) -> InputStream,
        ): SoriModel =
            load(options) {
                val files = PackageFiles(open)
                Native.packageFromFiles(files, options.engine.ordinal, options.precision.ordinal, options.languageModel)
            }

        private suspend fun load(options: ModelOptions, readPackage: () -> Long): SoriModel {
            var model: SoriModel? = null
            try {
                return withContext(Dispatchers.IO) {
                    val opened = SoriModel(open(readPackage(), options))
                    model = opened
                    ensureActive()
                    opened
                }
            } catch (e: Throwable) {
                // Cancelled while it was loaded: nobody gets it.
                model?.close()
                throw e
            }
        }

        private fun open(packageHandle: Long, options: ModelOptions): Long =
            Native.openModel(
                packageHandle,
                options.engine.ordinal,
                options.precision.ordinal,
                options.threads,
                options.parallel,
                options.beam,
                options.alternatives,
                options.languageModel,
                options.endpoint.silence,
                options.endpoint.silenceAfterSpeech,
                options.endpoint.longest,
            )
    }
}
