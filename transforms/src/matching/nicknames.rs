//! Names by which the same person goes.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Groups of given names that stand for each other; the first is the one that the others are short for. A name may be in
/// several groups: `pat` is Patrick or Patricia.
const GROUPS: &str = "\
abigail abby gail abbie|abraham abe bram|adelaide addie|agnes aggie nessie|albert al bert bertie albie|alexander alex al xander \
sandy alec lex sasha alejandro aleksandr|alexandra alex sandra sandy lexi sasha ali alexa|alfred al fred alf alfie freddie|alice ali \
allie|alison ali allie|amanda mandy manda amy|amelia amy millie mia|andrew andy drew andre andreas andres|angela angie|ann anna annie \
anne nan nancy hannah ana anita|anthony tony ant anton antonio|antonia toni tonia|arthur art artie|barbara barb barbie babs bobbie|\
bartholomew bart|beatrice bea trixie bee|belinda bel lindy|benedict ben|benjamin ben benny benji benjy|bernard bernie barney|bradley \
brad|brandon bran|bridget biddy bridie|caroline carol carrie caro carolyn lina|cassandra cass cassie sandra|catherine cathy kate \
katie kat kathy cat katherine kathryn kitty kay katy katrina catalina kathleen|cecilia cece cissy celia|charles charlie chuck chas \
chaz carl carlos karl|charlotte charlie lottie char|chester chet|christina chris tina chrissy christine christie kristina kristen \
kirsten|christopher chris kit topher christian cristobal kris|clarence clare|clifford cliff|constance connie|cornelius neil|cynthia \
cindy|daniel dan danny|danielle dani ellie|david dave davey davy|deborah deb debbie debra|dennis denny|derek rick|desmond des|diana \
di diane|dominic dom nick|donald don donny|dorothy dot dottie dolly dora|douglas doug|edith edie|edmund ed eddie ted|edward ed eddie \
ted teddy ned eduardo|edwin ed eddie|eleanor ellie nell nora ella elle lena|elijah eli|elizabeth liz beth betty lizzie eliza lisa \
libby elsie betsy liza lilibet bess elisabeth isabel|emily em emmy millie|emma em|eric rick ricky|ernest ernie|eugene gene|evelyn \
eve evie|ezekiel zeke|florence flo florrie|frances fran frankie francesca|francis frank fran francisco paco frankie|franklin frank|\
frederick fred freddie freddy rick fritz federico|gabriel gabe|gabrielle gabby gabi|genevieve gen ginny viv|geoffrey geoff jeff \
jeffrey|george georgie jorge|georgina georgie gina georgia|gerald gerry jerry|gerard gerry jerry|gilbert gil bert|gregory greg \
gregg|gwendolyn gwen wendy|harold harry hal|harriet hattie harry|harrison harry|helen nell nellie lena helena ellen|henry harry hank \
hal enrique heinrich|herbert herb bert|howard howie|hubert bert|ignatius iggy nacho ignacio|irene rene|isaac ike zac|isabella bella \
izzy isabel belle ella|isidore izzy|jacob jake jack jay|jacqueline jackie|james jim jimmy jamie jem jay jaime|jane jan janie janet \
jenny|janet jan|jasmine jas jazz|jason jay|jeanette jean netta|jennifer jen jenny jenna|jeremiah jerry jem|jeremy jerry jem|jerome \
jerry|jessica jess jessie|joan joanie|joanna jo joanne annie|john jack johnny jon jonny ian sean juan johan jan|jonathan jon jonny \
nathan|jordan jordy|joseph joe joey jo jose pepe giuseppe|josephine jo josie fifi|joshua josh|joyce joy|judith judy jude|julia jules \
julie|julian jules|kenneth ken kenny|kimberly kim kimmie|lauren laurie|laurence larry lawrence lars laurie lorenzo|leo leon|leonard \
len lenny leo|leonardo leo|leroy roy|leslie les|lewis lew louis louie|lillian lily lil lilly|linda lindy lynn|louis lou louie luis|\
louise lou lulu luisa|lucas luke|lucille lucy lou|lucinda lucy cindy|lydia lyddie|madeline maddie maddy madge|magdalena lena maggie|\
malcolm mal|marcus marc mark|margaret maggie meg peggy marge margie greta daisy rita margot madge peg|maria mary mia mari|marie mary \
mari|marilyn mary lynn|martha marty mattie|martin marty|marvin marv|mary molly polly mae may mamie minnie|matilda tilly mattie|\
matthew matt matty mateo|maurice mo morris|maxwell max|maximilian max|maximus max|melanie mel|melissa mel missy lissa|melvin mel|\
mercedes mercy sadie|michael mike mick mickey micky miguel mikey mitch mikhail|michelle shelly chelle|mildred millie|mitchell mitch|\
mohammed mo mohamed muhammad mohammad|monica mona|montgomery monty|nancy nan|natalie nat nattie|natasha tasha nat|nathaniel nathan nat \
nate|nicholas nick nicky nico klaus nicolas|nicole nicky nikki cole|noah noe|norman norm|oliver ollie noll|olivia liv ollie livvy|\
oscar ozzie|oswald oz ozzie|pamela pam|patricia pat patty trish tricia patsy|patrick pat paddy rick|paul pablo paulie|pauline polly|\
penelope penny|percival percy|peter pete pedro|philip phil pip phillip|philippa pippa pip|phyllis phyl|priscilla cilla|rachel rach|\
ralph rafe|randolph randy|randall randy|raphael rafe raf rafael|raymond ray|rebecca becky becca|regina gina|reginald reg reggie|\
richard rick dick rich ricky richie ricardo|robert bob rob bobby robbie bert roberto|roberta bobbie robbie|roderick rod rick|rodney \
rod|roger rog|roland rolly|ronald ron ronnie|rosalind ros roz|rose rosie rosa|rosemary rose rosie romy|roxanne roxy|rudolph rudy \
rolf|russell russ|ruth ruthie|salvador sal|samantha sam sammy|samuel sam sammy|sarah sally sadie sara|sebastian seb bas|shirley \
shirl|sidney sid syd|silvester sly|simon si|sophia sophie sofia|solomon sol|stanley stan|stephanie steph stevie|stephen steve stevie \
steven stefan esteban|stuart stu stewart|susan sue susie suzy suzanne susanna sukie|sylvia syl|tabitha tabby|teresa terry tess \
theresa tessa tracy|terence terry|thaddeus tad|theodore ted teddy theo|theodora dora thea|thomas tom tommy tomas|timothy tim timmy|\
tobias toby|valentina val tina|valerie val|vanessa nessa|veronica ronnie vera nica|victor vic viktor|victoria vicky tori vic vicki|\
vincent vince vin vinny|violet vi|virginia ginny ginger|vivian viv|walter walt wally|warren wren|wilhelmina mina willa|william bill \
will billy willie liam wim guillermo|winifred winnie fred|winston win|yvonne vonnie|zachary zach zack zac|zoe zo";

static TABLE: LazyLock<HashMap<&'static [u8], Vec<u16>>> = LazyLock::new(|| {
    let mut table: HashMap<&'static [u8], Vec<u16>> = HashMap::new();
    for (group, names) in (0u16..).zip(GROUPS.split('|')) {
        for name in names.split_whitespace() {
            let groups = table.entry(name.as_bytes()).or_default();
            if groups.last() != Some(&group) {
                groups.push(group);
            }
        }
    }
    table
});

static HEADS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| GROUPS.split('|').map(|g| g.split_whitespace().next().unwrap_or_default()).collect());

/// Whether two folded given names are ways to call one person.
pub(super) fn alike(a: &[u8], b: &[u8]) -> bool {
    match (TABLE.get(a), TABLE.get(b)) {
        (Some(a), Some(b)) => a.iter().any(|g| b.contains(g)),
        _ => false,
    }
}

/// The name that a nickname is short for, when it is short for one name only; else the name itself.
pub(super) fn full(name: &[u8]) -> &[u8] {
    match TABLE.get(name).map(Vec::as_slice) {
        Some([group]) => HEADS[usize::from(*group)].as_bytes(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nicknames_meet_through_the_name_they_are_short_for() {
        for (a, b) in [("bob", "robert"), ("bill", "liam"), ("pat", "patricia"), ("pat", "patrick"), ("jack", "john")] {
            assert!(alike(a.as_bytes(), b.as_bytes()), "{a} {b}");
            assert!(alike(b.as_bytes(), a.as_bytes()), "{b} {a}");
        }
        assert!(!alike(b"patricia", b"patrick"));
        assert!(!alike(b"quill", b"quill"));
        assert_eq!(full(b"bob"), b"robert");
        assert_eq!(full(b"pat"), b"pat");
    }
}
