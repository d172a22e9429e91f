//! How common names are in general, for records that come alone or in small numbers.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::LazyLock;

use super::scorer::{Hashed, Term};

/// Common family names of the United States with how many of a hundred thousand people have them, roughly.
const FAMILY: &str = "smith 830|johnson 660|williams 550|brown 490|jones 480|garcia 395|miller 390|davis 380|rodriguez 370|\
martinez 360|hernandez 350|lopez 300|gonzalez 285|wilson 270|anderson 265|thomas 255|taylor 255|moore 245|jackson 240|\
martin 240|lee 235|perez 230|thompson 225|white 224|harris 212|sanchez 207|clark 191|ramirez 189|lewis 180|robinson 179|\
walker 177|young 164|allen 163|king 158|wright 155|scott 148|torres 148|nguyen 148|hill 147|flores 147|green 146|\
adams 145|nelson 144|baker 142|hall 138|rivera 132|campbell 130|mitchell 130|carter 127|roberts 127|gomez 123|\
phillips 121|evans 120|turner 118|diaz 117|parker 114|cruz 113|edwards 112|collins 111|reyes 110|stewart 109|\
morris 108|morales 106|murphy 104|cook 102|rogers 102|gutierrez 99|ortiz 97|morgan 96|cooper 95|peterson 94|\
bailey 94|reed 93|kelly 92|howard 91|ramos 90|kim 89|cox 89|ward 88|richardson 88|watson 85|brooks 85|chavez 84|\
wood 84|james 84|bennett 82|gray 82|mendoza 82|ruiz 80|hughes 80|price 79|alvarez 79|castillo 77|sanders 77|patel 77|\
myers 76|long 75|ross 75|foster 74|jimenez 74";
/// Common given names likewise.
const GIVEN: &str = "james 1400|john 1350|robert 1300|michael 1350|william 1000|david 1050|mary 1300|joseph 700|richard 680|\
thomas 650|charles 560|christopher 630|daniel 590|matthew 500|jennifer 450|patricia 500|linda 470|elizabeth 480|\
anthony 430|barbara 440|susan 400|jessica 320|mark 410|donald 380|steven 390|paul 380|andrew 370|joshua 370|kenneth 350|\
kevin 340|brian 330|george 330|sarah 300|karen 300|nancy 280|lisa 280|margaret 270|betty 260|sandra 250|ashley 250|\
dorothy 240|kimberly 240|emily 240|donna 230|michelle 230|carol 220|amanda 220|melissa 220|deborah 210|stephanie 210|\
jason 290|edward 320|ronald 310|timothy 310|jeffrey 280|ryan 270|jacob 260|gary 260|nicholas 250|eric 250|jonathan 240|\
stephen 230|larry 220|justin 220|scott 210|brandon 210|benjamin 210|samuel 200|jose 290|maria 300|anna 180|laura 190|\
amy 190|rebecca 200|angela 190|rachel 160|nicole 190|olivia 130|emma 140|sophia 110|alexander 190|tyler 160|jack 120";

/// The share of people who have a name, given by its hash, whatever the data says.
pub(super) fn frequency(term: Term, name: u64) -> f64 {
    static TABLE: LazyLock<HashMap<u64, f64, BuildHasherDefault<Hashed>>> = LazyLock::new(|| {
        [(Term::Given, GIVEN), (Term::Family, FAMILY)]
            .into_iter()
            .flat_map(|(term, text)| text.split('|').map(move |entry| (term, entry)))
            .filter_map(|(term, entry)| entry.split_once(' ').map(|(name, count)| (term, name, count)))
            .filter_map(|(term, name, count)| Some((term.hash(name.as_bytes()), count.parse::<f64>().ok()? / 1e5)))
            .collect()
    });
    let else_rate = if term == Term::Given { 6e-4 } else { 1e-4 };
    TABLE.get(&name).copied().unwrap_or(else_rate)
}
