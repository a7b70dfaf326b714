"""The log-mel spectrogram as TensorFlow operations, so that a SavedModel takes PCM and needs no code beside it.

The definition is `earshot.spectrogram`'s: its mel filters and windows are constants of the graph, and the operations
here follow its own one by one. The two FFTs differ in the last bits, so a pixel that stands on a rounding edge may
differ by one step.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from earshot.audio import FULL_SCALE
from earshot.spectrogram import DEFAULT_PARAMS, hann_window, mel_filters

if TYPE_CHECKING:
    from earshot.spectrogram import SpectrogramParams


def spectrogram_graph(pcm: Any, params: SpectrogramParams = DEFAULT_PARAMS) -> Any:
    """Images of `pcm` (int16 tensor [batch, samples]): uint8 tensor [batch, mels, frames, channels]."""
    samples = tf.cast(pcm, tf.float32) / FULL_SCALE
    channels = [_log_mel(samples, window, params) for window in params.window_samples]
    image = (tf.stack(channels, axis=-1) + params.range_db) * (255.0 / params.range_db)
    return tf.cast(tf.round(image), tf.uint8)


def _log_mel(samples: Any, window: int, params: SpectrogramParams) -> Any:
    """Decibels below each segment's peak, float32 [batch, mels, frames], of float32 [batch, samples]."""
    fft_samples = params.fft_samples(window)
    edge = fft_samples // 2
    padded = tf.pad(samples, [[0, 0], [edge, edge]])
    frames = tf.signal.frame(padded, fft_samples, params.hop_samples)
    spectrum = tf.signal.rfft(frames * tf.constant(hann_window(window, fft_samples)))
    power = tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))
    mel = tf.einsum("bfk,mk->bmf", power, tf.constant(mel_filters(params, fft_samples)))
    reference = tf.maximum(tf.reduce_max(mel, axis=[1, 2], keepdims=True), params.quietest_reference)
    least = tf.maximum(params.floor_power / reference, 10.0 ** (-params.range_db / 10.0))
    return tf.math.log(tf.maximum(mel / reference, least)) * (10.0 / math.log(10.0))
