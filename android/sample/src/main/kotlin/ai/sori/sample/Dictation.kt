package ai.sori.sample

import ai.sori.Microphone
import ai.sori.Recognizer
import ai.sori.SoriException
import ai.sori.SoriModel
import ai.sori.SpeechEvent
import android.app.Application
import androidx.lifecycle.AndroidViewModel
import androidx.lifecycle.viewModelScope
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.asStateFlow
import kotlinx.coroutines.flow.update
import kotlinx.coroutines.launch

/** What is on the screen. */
data class Screen(
    val ready: Boolean = false,
    val listening: Boolean = false,
    val lines: List<String> = emptyList(),
    val partial: String = "",
    val problem: String? = null,
)

/** Owns the model and what is being said; outlives a turn of the screen. */
class Dictation(application: Application) : AndroidViewModel(application) {
    private val state = MutableStateFlow(Screen())
    val screen: StateFlow<Screen> = state.asStateFlow()

    private var model: SoriModel? = null
    private var recognizer: Recognizer? = null

    init {
        viewModelScope.launch {
            try {
                // The package in src/main/assets/model.
                val model = SoriModel.fromAssets(application.assets, "model")
                this@Dictation.model = model
                recognizer = model.recognizer()
                state.update { it.copy(ready = true) }
            } catch (e: SoriException) {
                state.update { it.copy(problem = e.message) }
            }
        }
    }

    /** Only with the permission RECORD_AUDIO. */
    fun listen() {
        val recognizer = recognizer ?: return
        if (state.value.listening) return
        state.update { it.copy(listening = true, problem = null) }
        viewModelScope.launch {
            try {
                recognizer.listen(Microphone(getApplication())).collect(::show)
            } catch (e: SoriException) {
                state.update { it.copy(problem = e.message) }
            } finally {
                state.update { it.copy(listening = false, partial = "") }
            }
        }
    }

    /** The last words still come. */
    fun stop() {
        recognizer?.stop()
    }

    fun refused(problem: String) {
        state.update { it.copy(problem = problem) }
    }

    private fun show(event: SpeechEvent) {
        state.update {
            when (event) {
                is SpeechEvent.Partial -> it.copy(partial = event.segment.text)
                is SpeechEvent.Final -> it.copy(lines = it.lines + event.segment.text, partial = "")
                is SpeechEvent.Endpoint -> it
            }
        }
    }

    override fun onCleared() {
        recognizer?.close()
        model?.close()
    }
}
