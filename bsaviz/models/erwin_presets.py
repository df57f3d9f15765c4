"""Settings of Erwin by name.

The published ones are those of the training scripts beside the published code (github.com/maxxxzdn/erwin, folder
experiments): train_shapenet, train_cosmology, train_md and train_eagle, each with sizes small, medium and large that
differ in their channels. What the scripts read off their data sets (velocities, types of particles, the edges of a
mesh or of bonds) is no part of a preset: there the points start from Fourier features of the script's width, until
`in_features` is given.
"""


def _sizes(task, widths, **settings):
    """Presets of one task: its channels double where a stride halves the slots."""
    strides = settings["strides"]
    presets = {}
    for size, width in zip(("small", "medium", "large"), widths):
        dims = [width]
        for stride in strides:
            dims.append(dims[-1] * stride)
        presets[f"{task}-{size}"] = dict(dims=tuple(dims), **settings)
    return presets


_SHAPENET = dict(
    ball_sizes=(256, 256), strides=(1,), enc_depths=(6, 6), enc_num_heads=(8, 8), dec_depths=(6,), dec_num_heads=(8,),
    neighbours=8, fourier_features=64,
)  # fmt: skip
_COSMOLOGY = dict(
    ball_sizes=(256, 256, 256, 256), strides=(2, 2, 2), enc_depths=(2, 2, 6, 2), enc_num_heads=(2, 4, 8, 16),
    dec_depths=(2, 2, 2), dec_num_heads=(2, 4, 8), neighbours=10, rotation_angle=None,
    coordinates=True, fourier_features=0, position_scaling="none", out_features=3,
)  # fmt: skip
_FIVE_LEVELS = dict(
    strides=(2, 2, 2, 2), enc_depths=(2, 2, 2, 6, 2), enc_num_heads=(2, 4, 8, 16, 32),
    dec_depths=(2, 2, 2, 2), dec_num_heads=(4, 4, 8, 16), fourier_features=16,
)  # fmt: skip

ERWIN_PRESETS = {
    "tiny": dict(
        dims=(16, 32, 64), ball_sizes=(64, 64, 32), strides=(2, 2), enc_depths=(2, 2, 2), enc_num_heads=(2, 4, 4),
        dec_depths=(2, 2), dec_num_heads=(2, 4), mp_steps=1, fourier_features=16,
    ),
    "small": dict(
        dims=(32, 64, 128), ball_sizes=(128, 128, 64), strides=(2, 2), enc_depths=(2, 2, 2), enc_num_heads=(2, 4, 8),
        dec_depths=(2, 2), dec_num_heads=(2, 4), fourier_features=32,
    ),
    **_sizes("shapenet", (64, 128, 256), **_SHAPENET),
    **_sizes("cosmology", (32, 64, 128), **_COSMOLOGY),
    **_sizes("md", (16, 32, 64), ball_sizes=(128, 128, 128, 64, 32), out_features=6, **_FIVE_LEVELS),
    **_sizes("turbulence", (16, 32, 64), ball_sizes=(256, 256, 256, 128, 128), spatial_dims=2, out_features=3,
             **_FIVE_LEVELS),
}  # fmt: skip
ERWIN_PRESETS["published"] = ERWIN_PRESETS["shapenet-small"]
for _size in ("md-large", "turbulence-large"):
    ERWIN_PRESETS[_size]["fourier_features"] = 32
