import org.jetbrains.kotlin.gradle.dsl.JvmTarget
import org.jetbrains.kotlin.gradle.dsl.KotlinVersion

plugins {
    alias(libs.plugins.android.library)
    alias(libs.plugins.kotlin.android)
}

android {
    namespace = "ai.sori"
    compileSdk = 36

    defaultConfig {
        minSdk = 24
        consumerProguardFiles("consumer-rules.pro")
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
}

kotlin {
    explicitApi()
    compilerOptions {
        jvmTarget = JvmTarget.JVM_1_8
        languageVersion = KotlinVersion.fromVersion(libs.versions.language.get())
        apiVersion = languageVersion
        moduleName = "ai.sori"
        allWarningsAsErrors = true
    }
}

dependencies {
    api(libs.coroutines.core)
}

// src/main/jniLibs is filled by `make android`: an AAR without it would load and then fail.
val nativeLibraries = layout.projectDirectory.dir("src/main/jniLibs")
tasks.named("preBuild") {
    val folder = nativeLibraries.asFile
    doFirst {
        require(folder.walk().any { it.name == "libsori_android.so" }) {
            "$folder: no libsori_android.so; run `make android` in the root of the repository first"
        }
    }
}
