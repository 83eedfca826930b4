package ai.sori.sample

import android.Manifest
import android.content.pm.PackageManager
import android.os.Bundle
import androidx.activity.ComponentActivity
import androidx.activity.compose.rememberLauncherForActivityResult
import androidx.activity.compose.setContent
import androidx.activity.result.contract.ActivityResultContracts
import androidx.activity.viewModels
import androidx.compose.foundation.layout.Arrangement
import androidx.compose.foundation.layout.Column
import androidx.compose.foundation.layout.fillMaxSize
import androidx.compose.foundation.layout.fillMaxWidth
import androidx.compose.foundation.layout.padding
import androidx.compose.foundation.layout.safeDrawingPadding
import androidx.compose.foundation.lazy.LazyColumn
import androidx.compose.foundation.lazy.items
import androidx.compose.material3.Button
import androidx.compose.material3.MaterialTheme
import androidx.compose.material3.Surface
import androidx.compose.material3.Text
import androidx.compose.runtime.Composable
import androidx.compose.runtime.getValue
import androidx.compose.ui.Modifier
import androidx.compose.ui.platform.LocalContext
import androidx.compose.ui.res.stringResource
import androidx.compose.ui.unit.dp
import androidx.lifecycle.compose.collectAsStateWithLifecycle

/** One screen: what was said, what is being said, and a button. */
class MainActivity : ComponentActivity() {
    private val dictation: Dictation by viewModels()

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContent {
            val screen by dictation.screen.collectAsStateWithLifecycle()
            MaterialTheme {
                Surface(Modifier.fillMaxSize()) {
                    DictationScreen(screen, dictation::listen, dictation::stop, dictation::refused)
                }
            }
        }
    }

    // Nobody is recorded behind their back: the microphone goes with the screen, except for a turn of it.
    override fun onStop() {
        super.onStop()
        if (!isChangingConfigurations) dictation.stop()
    }
}

@Composable
private fun DictationScreen(
    screen: Screen,
    listen: () -> Unit,
    stop: () -> Unit,
    refused: (String) -> Unit,
) {
    val context = LocalContext.current
    val allowMicrophone = stringResource(R.string.allow_microphone)
    val askPermission =
        rememberLauncherForActivityResult(ActivityResultContracts.RequestPermission()) { granted ->
            if (granted) listen() else refused(allowMicrophone)
        }
    Column(Modifier.safeDrawingPadding().padding(16.dp), Arrangement.spacedBy(12.dp)) {
        LazyColumn(Modifier.weight(1f).fillMaxWidth(), reverseLayout = true) {
            item { Text(screen.partial, color = MaterialTheme.colorScheme.outline) }
            items(screen.lines.asReversed()) { Text(it, Modifier.padding(vertical = 4.dp)) }
        }
        screen.problem?.let { Text(it, color = MaterialTheme.colorScheme.error) }
        if (!screen.ready && screen.problem == null) Text(stringResource(R.string.loading))
        Button(
            onClick = {
                val permission = Manifest.permission.RECORD_AUDIO
                when {
                    screen.listening -> stop()
                    context.checkSelfPermission(permission) == PackageManager.PERMISSION_GRANTED -> listen()
                    else -> askPermission.launch(permission)
                }
            },
            enabled = screen.ready,
            modifier = Modifier.fillMaxWidth(),
        ) {
            Text(stringResource(if (screen.listening) R.string.stop else R.string.listen))
        }
    }
}
