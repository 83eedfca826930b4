package ai.sori

import kotlinx.coroutines.channels.Channel

/**
 * Events on their way from a thread that must not wait to a collector that may be slow. A partial event that was not
 * taken yet goes when the next one says more; nothing else is lost.
 */
internal class Mailbox {
    private val events = ArrayDeque<SpeechEvent>()
    private var ended = false
    private var failure: Throwable? = null
    private val news = Channel<Unit>(Channel.CONFLATED)

    fun put(event: SpeechEvent) {
        synchronized(events) {
            if (event !is SpeechEvent.Endpoint && events.lastOrNull() is SpeechEvent.Partial) events.removeLast()
            events.addLast(event)
        }
        news.trySend(Unit)
    }

    /** No more events come; a failure is thrown once all are taken. */
    fun end(failure: Throwable?) {
        synchronized(events) {
            ended = true
            this.failure = failure
        }
        news.trySend(Unit)
    }

    /** The next event, or null after the last one. */
    suspend fun take(): SpeechEvent? {
        while (true) {
            synchronized(events) {
                events.removeFirstOrNull()?.let { return it }
                if (ended) {
                    failure?.let { throw it }
                    return null
                }
            }
            news.receive()
        }
    }
}
