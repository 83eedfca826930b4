// Drives the library on this machine's Java: the same classes as on a phone, with a recording in the microphone's place.

package host

import ai.sori.AudioException
import ai.sori.AudioSource
import ai.sori.ClosedException
import ai.sori.Engine
import ai.sori.EngineException
import ai.sori.EndpointRules
import ai.sori.GrammarException
import ai.sori.ModelException
import ai.sori.ModelOptions
import ai.sori.Phrase
import ai.sori.PhrasesException
import ai.sori.PhrasesResult
import ai.sori.Precision
import ai.sori.Recognizer
import ai.sori.SoriModel
import ai.sori.SpeechEvent
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.cancel
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.onEach
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.File
import java.io.IOException
import java.io.SequenceInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.GZIPInputStream
import java.util.zip.GZIPOutputStream
import kotlin.system.exitProcess

const val WORDS = "one two three 소리 going"

/**
 * A recording in place of a microphone; `pace` waits as one would, `endless` goes on with silence, `ahead` has all of it
 * before it is read.
 */
class Recording(
    private val samples: ShortArray,
    private val pace: Boolean = false,
    private val endless: Boolean = false,
    @Volatile var failAfter: Int = Int.MAX_VALUE,
    private val ahead: Boolean = false,
) : AudioSource {
    override val sampleRate = 16_000
    private var next = 0

    @Volatile var started = false

    @Volatile var closed = false

    override fun start() {
        started = true
    }

    override fun read(samples: ShortArray): Int {
        if (pace) Thread.sleep(10)
        if (next >= failAfter) throw IOException("the cable is out")
        val rest = this.samples.size - next
        if (rest <= 0) {
            if (!endless) return -1
            Thread.sleep(5)
            samples.fill(0)
            return samples.size
        }
        val count = minOf(rest, samples.size)
        this.samples.copyInto(samples, 0, next, next + count)
        next += count
        return count
    }

    override fun remaining() = if (ahead) samples.copyOfRange(next, samples.size) else super.remaining()

    override fun close() {
        closed = true
    }
}

fun words(events: List<SpeechEvent>): String =
    events.filterIsInstance<SpeechEvent.Final>().flatMap { it.segment.words }.joinToString(" ") { it.text }

fun expect(expected: Any?, found: Any?, what: String) {
    if (expected != found) throw AssertionError("$what: expected <$expected>, found <$found>")
}

inline fun <reified E : Throwable> throws(text: String, call: () -> Unit) {
    try {
        call()
    } catch (e: Throwable) {
        if (e is E && text in e.message.orEmpty()) return
        throw AssertionError("expected ${E::class.simpleName} with \"$text\", found $e", e)
    }
    throw AssertionError("expected ${E::class.simpleName} with \"$text\", nothing was thrown")
}

fun resident(): Long = File("/proc/self/statm").readText().split(' ')[1].toLong() * 4_096

class Tests(private val folder: File) {
    private val samples: ShortArray =
        File(folder, "sample.wav").readBytes().let { wav ->
            val shorts = ByteBuffer.wrap(wav, 44, wav.size - 44).order(ByteOrder.LITTLE_ENDIAN).asShortBuffer()
            ShortArray(shorts.remaining()).also { shorts.get(it) }
        }
    private val model = runBlocking { SoriModel.fromFile(folder) }

    private fun fresh(body: suspend CoroutineScope.(Recognizer) -> Unit) =
        model.recognizer().use { recognizer -> runBlocking { withTimeout(60_000) { body(recognizer) } } }

    fun `a recording is transcribed with times`() =
        fresh { recognizer ->
            expect(true, model.engine.startsWith("tract") || model.engine.startsWith("ONNX"), model.engine)
            val events = samples.toList().chunked(1_000).flatMap { recognizer.accept(it.toShortArray()) } + recognizer.finish()
            expect(WORDS, words(events), "words")
            val segment = events.filterIsInstance<SpeechEvent.Final>().first().segment
            expect(segment.words.joinToString(" ") { it.text }, segment.text, "text")
            expect(true, segment.words.zipWithNext().all { (a, b) -> a.end <= b.start && a.start < a.end }, "times in order")
            expect(true, segment.confidence > 0.9f && segment.confidence <= 1f, "confidence")
            val floats = FloatArray(samples.size) { samples[it] / 32_768f }
            expect(WORDS, words(recognizer.accept(floats) + recognizer.finish()), "words of floats")
            expect(emptyList<SpeechEvent>(), recognizer.accept(samples, count = 0), "nothing")
        }

    fun `a compressed package is read from streams`() =
        runBlocking {
            val asked = ArrayList<String>()
            val options = ModelOptions(engine = Engine.TRACT, precision = Precision.INT8, beam = 4, alternatives = 2)
            val model =
                SoriModel.fromStreams(options) { name ->
                    asked.add(name)
                    val zipped = ByteArrayOutputStream()
                    GZIPOutputStream(zipped).use { it.write(File(folder, name).readBytes()) }
                    GZIPInputStream(ByteArrayInputStream(zipped.toByteArray()))
                }
            expect(listOf("config.json", "tokens.txt", "model.int8.onnx"), asked, "files asked for")
            model.use {
                it.recognizer().use { recognizer ->
                    val events = recognizer.accept(samples) + recognizer.finish()
                    expect(WORDS, words(events), "words")
                    val first = events.filterIsInstance<SpeechEvent.Final>().first().segment
                    expect(first.text, first.alternatives.first().text, "first alternative")
                }
            }
        }

    fun `streams are asked for the graph that a file would run`() =
        runBlocking {
            for (engine in listOf(Engine.AUTO, Engine.TRACT)) {
                val options = ModelOptions(engine = engine)
                val asked = ArrayList<String>()
                val model = SoriModel.fromStreams(options) { name -> File(folder, name).inputStream().also { asked.add(name) } }
                val ofFile = SoriModel.fromFile(folder, options)
                expect(ofFile.engine, model.engine, "engine")
                expect(3, asked.size, "files of $asked")
                model.close()
                ofFile.close()
            }
        }

    fun `a stream may give little at first`() =
        runBlocking {
            val model =
                SoriModel.fromStreams { name ->
                    val file = File(folder, name)
                    val head = file.inputStream().use { it.readNBytes(100) }
                    SequenceInputStream(ByteArrayInputStream(head), file.inputStream().apply { skipNBytes(head.size.toLong()) })
                }
            model.use {
                it.recognizer().use { recognizer ->
                    expect(WORDS, words(recognizer.accept(samples) + recognizer.finish()), "words")
                }
            }
        }

    fun `a recognizer outlives its model`() =
        runBlocking {
            val model = SoriModel.fromFile(folder)
            val recognizer = model.recognizer()
            model.close()
            model.close()
            throws<ClosedException>("model: is closed") { model.recognizer() }
            throws<ClosedException>("model: is closed") { model.engine }
            expect(WORDS, words(recognizer.accept(samples) + recognizer.finish()), "words")
            recognizer.close()
        }

    fun `listening streams events as they come`() =
        fresh { recognizer ->
            val source = Recording(samples)
            val events = recognizer.listen(source).toList()
            expect(WORDS, words(events), "words")
            expect(true, source.started && source.closed, "source started and closed")
            expect(WORDS, words(recognizer.listen(Recording(samples)).toList()), "words again")
            // While it is going on: the first word is heard before the recording is over.
            val live = Recording(samples, pace = true, endless = true)
            val first = recognizer.listen(live).first { it is SpeechEvent.Partial }
            expect("one", (first as SpeechEvent.Partial).segment.text, "first partial")
            expect(true, live.closed, "source closed by cancellation")
            expect(WORDS, words(recognizer.accept(samples) + recognizer.finish()), "nothing is left of what was cancelled")
        }

    fun `a slow collector misses no final event`() =
        fresh { recognizer ->
            val events = recognizer.listen(Recording(samples)).onEach { delay(200) }.toList()
            expect(WORDS, words(events), "words")
        }

    fun `stopping gives the last words`() =
        fresh { recognizer ->
            val heard = ArrayList<SpeechEvent>()
            val source = Recording(samples, pace = true, endless = true)
            recognizer.listen(source).collect {
                heard.add(it)
                if (it is SpeechEvent.Partial && it.segment.text.endsWith("three")) expect(true, recognizer.stop(), "was listening")
            }
            expect("one two three", words(heard), "words")
            expect(true, source.closed, "source closed")
        }

    fun `stopping hears what was recorded until then`() =
        fresh { recognizer ->
            val source = Recording(samples, pace = true, endless = true, ahead = true)
            val heard = recognizer.listen(source).onEach { if (it is SpeechEvent.Partial) recognizer.stop() }.toList()
            expect(WORDS, words(heard), "words")
        }

    fun `stopping what does not listen is told`() =
        fresh { recognizer ->
            val flow = recognizer.listen(Recording(samples))
            expect(false, recognizer.stop(), "was listening")
            expect(WORDS, words(flow.toList()), "words")
            expect(false, recognizer.stop(), "was listening")
        }

    fun `a source that fails takes no words along`() =
        fresh { recognizer ->
            val heard = ArrayList<SpeechEvent>()
            val source = Recording(samples, pace = true, endless = true)
            throws<IOException>("the cable is out") {
                recognizer.listen(source).collect {
                    heard.add(it)
                    if (it is SpeechEvent.Partial && it.segment.text.endsWith("three")) source.failAfter = 0
                }
            }
            expect("one two three", words(heard), "words")
        }

    fun `a cancelled flow starts no source`() =
        fresh { recognizer ->
            val source = Recording(samples)
            launch(start = CoroutineStart.UNDISPATCHED) {
                cancel()
                recognizer.listen(source).collect { }
            }.join()
            expect(false, source.started, "source started")
            expect(true, source.closed, "source closed")
        }

    fun `closing while listening ends the flow`() =
        fresh { recognizer ->
            val source = Recording(samples, pace = true, endless = true)
            val listening = CompletableDeferred<Unit>()
            val collector =
                launch(Dispatchers.Default) {
                    recognizer.listen(source).collect { listening.complete(Unit) }
                }
            listening.await()
            throws<IllegalStateException>("listening") { recognizer.accept(samples) }
            throws<IllegalStateException>("listening already") { recognizer.listen(Recording(samples)).toList() }
            recognizer.close()
            recognizer.close()
            collector.join()
            expect(false, collector.isCancelled, "the flow failed")
            expect(true, source.closed, "source closed")
            throws<ClosedException>("recognizer: is closed") { recognizer.accept(samples) }
            throws<ClosedException>("recognizer: is closed") { recognizer.finish() }
            expect(emptyList<SpeechEvent>(), recognizer.listen(Recording(samples)).toList(), "events after closing")
        }

    fun `cancelling stops the source`() =
        fresh { recognizer ->
            repeat(20) {
                val source = Recording(samples, pace = true, endless = true)
                val job = launch(Dispatchers.Default) { recognizer.listen(source).collect { } }
                while (!source.started) delay(1)
                job.cancelAndJoin()
                expect(true, source.closed, "source closed")
            }
        }

    fun `errors arrive as exceptions`() =
        fresh { recognizer ->
            throws<ModelException>("no such model package") { SoriModel.fromFile(File("/no/such/model")) }
            throws<ModelException>("config.json") { SoriModel.fromStreams { ByteArrayInputStream("{".toByteArray()) } }
            throws<ModelException>("tokens.txt: missing") {
                SoriModel.fromStreams { name ->
                    if (name == "tokens.txt") throw java.io.FileNotFoundException(name)
                    File(folder, name).inputStream()
                }
            }
            throws<IOException>("disk on fire") { SoriModel.fromStreams { throw IOException("disk on fire") } }
            // "no usable ONNX Runtime library", or "not part of this build".
            throws<EngineException>("engine ort: no") { SoriModel.fromFile(folder, ModelOptions(engine = Engine.ORT)) }
            throws<AudioException>("sample rate 7 Hz") { recognizer.accept(samples, 7) }
            throws<AudioException>("sample rate 0 Hz") { recognizer.accept(samples, -1) }
            throws<IllegalArgumentException>("count: expected 0 to") { recognizer.accept(samples, count = samples.size + 1) }
            throws<PhrasesException>("too much") { recognizer.setPhrases(numbers(100_000)) }
            throws<IllegalArgumentException>("boost") { Phrase("one", 21f) }
            throws<IllegalArgumentException>("beam") { ModelOptions(beam = -1) }
            throws<IllegalArgumentException>("parallel") { ModelOptions(parallel = 0) }
            throws<IllegalArgumentException>("endpoint rules") { EndpointRules(silence = 0.0) }
            val source = Recording(samples, failAfter = 8_000)
            throws<IOException>("the cable is out") { recognizer.listen(source).toList() }
            expect(true, source.closed, "source closed")
            expect(WORDS, words(recognizer.listen(Recording(samples)).toList()), "words after a failure")
        }

    fun `phrases are taken as they are`() =
        fresh { recognizer ->
            val strange = listOf("Area 51", "one 5", "#1 one", "José", "").map { Phrase(it) }
            val list = listOf(Phrase("one"), Phrase("GOING", 1.5f)) + strange
            expect(PhrasesResult(emptyList(), strange), recognizer.setPhrases(list), "phrases")
            expect(WORDS, words(recognizer.accept(samples) + recognizer.finish()), "words with phrases")
            recognizer.accept(samples)
            val (events, leftOut) = recognizer.setPhrases(emptyList())
            expect(true, events.any { it is SpeechEvent.Final }, "the utterance that phrases end")
            expect(emptyList<Phrase>(), leftOut, "left out of nothing")
            expect(emptyList<Phrase>(), recognizer.setPhrases(numbers(5_000)).leftOut, "left out of many")
        }

    /** Different phrases of the model's words. */
    private fun numbers(count: Int) =
        List(count) { number -> Phrase(number.toString(3).map { WORDS.split(' ')[it.digitToInt()] }.joinToString(" ")) }

    fun `a final may have hundreds of words`() =
        runBlocking {
            val never = Double.POSITIVE_INFINITY
            SoriModel.fromFile(folder, ModelOptions(endpoint = EndpointRules(never, never, never))).use { model ->
                model.recognizer().use { recognizer ->
                    val events = List(60) { recognizer.accept(samples) }.flatten() + recognizer.finish()
                    val finals = events.filterIsInstance<SpeechEvent.Final>()
                    expect(1, finals.size, "finals")
                    expect(List(60) { WORDS }.joinToString(" "), finals.single().segment.text, "words")
                }
            }
        }

    fun `a grammar is kept to`() =
        fresh { recognizer ->
            fun finals() = (recognizer.accept(samples) + recognizer.finish()).filterIsInstance<SpeechEvent.Final>().map { it.segment }
            val spoken = finals().map { it.text }
            recognizer.setGrammar(spoken.joinToString("\n"))
            expect(spoken, finals().map { it.text }, "sentences of the grammar")
            recognizer.setGrammar("#JSGF V1.0; public <order> = two (one | going);")
            val others = finals()
            expect(true, others.isNotEmpty() && others.all { it.outOfGrammar && it.words.isEmpty() }, "other sentences: $others")
            throws<GrammarException>("grammar:1") { recognizer.setGrammar("xylophone") }
            recognizer.setGrammar("")
            expect(spoken, finals().map { it.text }, "without a grammar")
        }

    fun `threads may close what others use`() =
        runBlocking {
            repeat(50) {
                val recognizer = model.recognizer()
                val worker =
                    Thread {
                        try {
                            while (true) recognizer.accept(samples)
                        } catch (_: ClosedException) {
                        }
                    }
                worker.start()
                Thread.sleep(2)
                recognizer.close()
                worker.join(30_000)
                expect(false, worker.isAlive, "worker goes on")
            }
        }

    fun `1000 models and recognizers leave nothing behind`() =
        runBlocking {
            val piece = samples.copyOf(32_000)
            suspend fun cycle() {
                SoriModel.fromFile(folder, ModelOptions(engine = Engine.TRACT)).use { model ->
                    model.recognizer().use { it.accept(piece) }
                }
            }
            repeat(100) { cycle() }
            System.gc()
            val before = resident()
            repeat(1_000) { cycle() }
            System.gc()
            val grown = (resident() - before) / 1_048_576.0
            println("  1000 cycles: %+.1f MiB".format(grown))
            // One leaked model of this size takes some 100 kB, its stream as much again.
            expect(true, grown < 20, "grown by $grown MiB")
        }
}

fun main(arguments: Array<String>) {
    val tests = Tests(File(arguments[0]))
    val methods = Tests::class.java.declaredMethods.filter { ' ' in it.name && '$' !in it.name }
    var failed = 0
    for (method in methods.sortedBy { it.name }) {
        val begin = System.nanoTime()
        val result = runCatching { method.invoke(tests) }
        println("%s ... %s (%.1f s)".format(method.name, if (result.isSuccess) "ok" else "FAILED", (System.nanoTime() - begin) / 1e9))
        result.exceptionOrNull()?.let {
            failed++
            (it.cause ?: it).printStackTrace(System.out)
        }
    }
    println("${methods.size} tests, $failed failed")
    exitProcess(if (failed == 0) 0 else 1)
}
