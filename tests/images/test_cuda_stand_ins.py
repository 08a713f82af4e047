"""Which stand-ins for CUDA libraries are made, and with what in them."""

from e2e.images.llm_cpu.cuda_stand_ins import NO_DEVICE, Needs, StandIn, needs, plan, source

DYNAMIC = """
 0x0000000000000001 (NEEDED)             Shared library: [libcudart.so.13]
 0x0000000000000001 (NEEDED)             Shared library: [libcublasLt.so.13]
 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]
 0x000000000000000f (RPATH)              Library rpath: [$ORIGIN]
"""
VERSIONS = """
Version needs section '.gnu.version_r' contains 2 entries:
  000000: Version: 1  File: libcudart.so.13  Cnt: 1
  0x0010:   Name: libcudart.so.13  Flags: none  Version: 14
  0x0020: Version: 1  File: libc.so.6  Cnt: 1
  0x0030:   Name: GLIBC_2.2.5  Flags: none  Version: 2
"""
SYMBOLS = """
   Num:    Value          Size Type    Bind   Vis      Ndx Name
     1: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND cudaMalloc@libcudart.so.13 (14)
     2: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND malloc@GLIBC_2.2.5 (2)
     3: 0000000000000000     0 NOTYPE  WEAK   DEFAULT  UND __gmon_start__
     4: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND ncclSend
     5: 0000000000001000    10 FUNC    GLOBAL DEFAULT   12 torch_own
"""


def test_listings_are_read() -> None:
    read = needs(DYNAMIC, VERSIONS, SYMBOLS)
    assert read.libraries == {"libcudart.so.13", "libcublasLt.so.13", "libc.so.6"}
    assert read.symbols == {
        ("cudaMalloc", "libcudart.so.13", "libcudart.so.13"),
        ("malloc", "GLIBC_2.2.5", "libc.so.6"),
        ("ncclSend", "", ""),
    }
    assert read.defines == {"torch_own"}


def test_every_missing_library_is_made_with_what_is_asked_of_it() -> None:
    other = Needs(frozenset({"libnccl.so.2"}), frozenset({("torch_own", "", "")}), frozenset())
    made = plan([needs(DYNAMIC, VERSIONS, SYMBOLS), other])
    assert set(made) == {"libcudart.so.13", "libcublasLt.so.13", "libnccl.so.2"}
    assert made["libcudart.so.13"].symbols == {"libcudart.so.13": {"cudaMalloc"}}
    assert made["libcublasLt.so.13"].symbols == {"": {"ncclSend"}}
    assert not made["libnccl.so.2"].symbols


def test_sources_name_symbols_and_versions() -> None:
    stand_in = StandIn()
    stand_in.symbols["v1"] |= {"b", "a"}
    stand_in.symbols[""].add("c")
    code, versions = source(stand_in)
    assert code.splitlines() == [f"int {name}(void) {{ return {NO_DEVICE}; }}" for name in "abc"]
    assert versions == "v1 { global: a; b; };\n"
