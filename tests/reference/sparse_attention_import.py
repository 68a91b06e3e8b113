"""The compress networks of native-sparse-attention-pytorch without what the rest of the package needs (einx, local-attention, Triton):
their file imports only PyTorch and einops, the package's __init__ everything."""
import importlib.util
import os

package = importlib.util.find_spec('native_sparse_attention_pytorch')
spec = importlib.util.spec_from_file_location('compress_networks', os.path.join(package.submodule_search_locations[0], 'compress_networks.py'))
compress_networks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compress_networks)
